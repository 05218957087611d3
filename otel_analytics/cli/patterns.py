"""`otel-analytics patterns`."""

import datetime as dt
import sys

import typer

from otel_analytics.cli.arguments import Days, Format, Route, Top, checked_route
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer


def patterns(
    context: typer.Context, route: Route, top: Top = None, days: Days = None, output: Format = "table"
) -> None:
    """Show with which parameters a route is asked for, by traffic.

    The percentiles are those of all requests in the span.
    """
    checked_route(route)
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import PatternRow
    from otel_analytics.present.question_tables import print_patterns

    with connected(settings) as connection:
        answer = questions.patterns(
            connection,
            route,
            now=dt.datetime.now(dt.UTC),
            days=settings.days,
            limit=settings.top_n_routes,
            with_courses=output == "table",
        )
    print_answer(answer, PatternRow, output, lambda: print_patterns(answer.rows, answer.courses, sys.stdout))
