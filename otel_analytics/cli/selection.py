"""What `rank` and `plan` share: options, the way to the database, and what is said about the answer."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from otel_analytics.settings import Settings
    from otel_analytics.store.connection import Connection

Days = Annotated[
    int | None, typer.Option(metavar="D", min=1, max=36_500, help="Days of history to look at. [days, 7]")
]
MinRequests = Annotated[
    float | None,
    typer.Option(metavar="X", min=0, help="Leave out what has fewer requests an hour. [min_requests, 10]"),
]
MinLatency = Annotated[
    float | None,
    typer.Option(metavar="MS", min=0, help="Leave out what has a lower p95, in ms. [min_latency, 100]"),
]


@contextmanager
def connected(settings: "Settings") -> Iterator["Connection"]:
    """A connection to a database whose schema is the one this version was written for."""
    from otel_analytics.store import migrations
    from otel_analytics.store.connection import connect

    with connect(settings.postgres_dsn) as connection:
        migrations.check(connection)
        yield connection


def print_remark(remark: str, *, with_table: bool) -> None:
    """Say something about the answer: under the table, or else where it is not taken for data."""
    if with_table:
        from otel_analytics.present.tables import print_line

        print_line(remark, sys.stdout)
    else:
        typer.echo(remark, err=True)
