"""`otel-analytics keep`."""

import datetime as dt
import os
import signal
from typing import Annotated, Final

import typer

from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.keeper import LONGEST_SECONDS
from otel_analytics.cli.words import counted, shown_moment

_NICE: Final = 10
"""Where the machine is busy, about a tenth of the time of others."""


def keep(
    context: typer.Context,
    if_older_than: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="Do nothing where younger rankings are there."),
    ] = None,
) -> None:
    """Keep the three rankings as they are now.

    Dashboards show them, and compare what the ranking by savings predicted with what came. The first
    top_n_routes rows of each are stored, 100 at most, for as long as hourly_retention_days says. The worker
    does it by itself every rankings_interval_seconds; with 0 there, run this from a scheduler. Several at
    once take turns. It has a low priority, and half an hour for each statement.
    """
    # A worker starts this with its signals blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    os.nice(_NICE)
    settings = load_settings(context)
    from otel_analytics import keeping
    from otel_analytics.store.connection import limit_statements

    with connected(settings) as connection:
        limit_statements(connection, LONGEST_SECONDS)
        kept = keeping.keep(
            connection, settings, clock=lambda: dt.datetime.now(dt.UTC), if_older_than=if_older_than
        )
    if kept.rows:
        each = ", ".join(f"{count:,} {name}" for name, count in kept.rows.items())
        typer.echo(f"kept the rankings: {each}")
    elif kept.younger is not None:
        typer.echo(f"kept nothing, as there are rankings of {shown_moment(kept.younger)}")
    else:
        typer.echo(f"kept nothing, as there is nothing to rank in the last {counted(settings.days, 'day')}")
