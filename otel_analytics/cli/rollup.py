"""`otel-analytics rollup`."""

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics.cli.arguments import utc_moment
from otel_analytics.cli.context import load_settings
from otel_analytics.cli.words import counted, shown_moment
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.settings import Settings
    from otel_analytics.store.connection import Connection

_ONE_DAY: Final = dt.timedelta(days=1)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def rollup(
    context: typer.Context,
    since: Annotated[
        dt.datetime | None,
        typer.Option(
            parser=utc_moment, metavar="TIME", help="Recompute from the hour of this date or time on; UTC."
        ),
    ] = None,
    until: Annotated[
        dt.datetime | None,
        typer.Option(parser=utc_moment, metavar="TIME", help="Up to here, itself not included; UTC. [now]"),
    ] = None,
) -> None:
    """Recompute hourly figures from raw events.

    Without a range, those of the hours that changed, as the worker does by itself. A range is for repair, for
    instance after rows were edited by hand. A time is a date or a date with a time, in UTC unless it has an
    offset.
    """
    settings = load_settings(context)
    now = dt.datetime.now(dt.UTC)
    if since is None and until is not None:
        raise UsageError("--until needs --since, the beginning of the range")
    if since is not None and since >= (until or now):
        raise UsageError("the range is empty: --since must be before --until, and before now")
    from otel_analytics.store import migrations
    from otel_analytics.store.connection import connect

    with connect(settings.postgres_dsn) as connection:
        migrations.check(connection)
        if since is None:
            _changed(connection, settings, now)
        else:
            _range(connection, settings, since, until or now)


def _changed(connection: "Connection", settings: "Settings", now: dt.datetime) -> None:
    from otel_analytics.rollup import rollup_touched

    hours = rollup_touched(connection, settings, now=now)
    typer.echo(f"recomputed {counted(hours, 'hour')} that had changed" if hours else "no hour had changed")


def _range(connection: "Connection", settings: "Settings", since: dt.datetime, until: dt.datetime) -> None:
    from otel_analytics.cli.progress import Progress
    from otel_analytics.rollup import rollup_range
    from otel_analytics.store import partitions

    with Progress() as progress:
        hours = rollup_range(
            connection,
            settings,
            since=since,
            until=until,
            progress=lambda hour: progress.show(f"recomputing {shown_moment(hour)}"),
        )
    typer.echo(f"recomputed {counted(hours, 'hour')} from {shown_moment(since)} to {shown_moment(until)}")
    days = set(partitions.days_from(since.date(), (until - _MICROSECOND).date()))
    missing = sorted(days - partitions.existing_days(connection))
    if missing:
        typer.echo(f"left as they were, for want of a raw partition: {_as_ranges(missing)}")


def _as_ranges(days: list[dt.date]) -> str:
    """Sorted days as text, neighbours joined."""
    ranges: list[list[dt.date]] = []
    for day in days:
        if ranges and day - ranges[-1][-1] == _ONE_DAY:
            ranges[-1][1:] = [day]
        else:
            ranges.append([day])
    return ", ".join(" to ".join(map(str, each)) for each in ranges)
