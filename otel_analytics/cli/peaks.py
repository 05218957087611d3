"""`otel-analytics peaks`."""

import datetime as dt
import sys
from typing import Annotated

import typer

from otel_analytics.cli.arguments import Format, OneRoute, Top, checked_route
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer
from otel_analytics.errors import UsageError


def peaks(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    route: OneRoute = None,
    top: Top = None,
    days: Annotated[
        int, typer.Option(metavar="D", min=1, max=36_500, help="Days of history to look at.")
    ] = 30,
    min_requests: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Leave out what has no more requests an hour. [50]"),
    ] = None,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Show all 168 hours of the week instead, darker when busier.")
    ] = False,
    output: Format = "table",
) -> None:
    """Say when there is most to do: by route and hour of the day.

    Requests are averaged over the days on which the route had traffic in that hour. Hours are UTC, and only
    those that are over count.
    """
    route = checked_route(route)
    if heatmap and not (top is None and min_requests is None):
        raise UsageError("--heatmap shows every hour of the week; leave out -n and --min-requests")
    settings = load_settings(context, top_n_routes=top)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import PeakRow, WeekRow
    from otel_analytics.present.question_tables import print_peaks, print_week

    now = dt.datetime.now(dt.UTC)
    if heatmap:
        with connected(settings) as connection:
            hours = questions.week(connection, now=now, days=days, route=route)
        print_answer(hours, WeekRow, output, lambda: print_week(hours.rows, sys.stdout))
        return
    with connected(settings) as connection:
        answer = questions.peaks(
            connection,
            now=now,
            days=days,
            min_requests=questions.PEAK_REQUESTS if min_requests is None else min_requests,
            route=route,
            limit=settings.top_n_routes,
        )
    print_answer(answer, PeakRow, output, lambda: print_peaks(answer.rows, sys.stdout))
