"""`otel-analytics trends`."""

import datetime as dt
import sys

import typer

from otel_analytics.cli.arguments import Days, Format, Route, checked_route
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer


def trends(context: typer.Context, route: Route, days: Days = None, output: Format = "table") -> None:
    """Show how a route fares, day by day, against the span before.

    With --days 2 or less, hour by hour. Days and hours are UTC; only hours that are over count, so the day of
    today is compared with the same hours of the day before it. The percentiles are those of all requests in a
    day or hour.
    """
    checked_route(route)
    settings = load_settings(context, days=days)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import TrendRow
    from otel_analytics.present.question_tables import print_trends

    with connected(settings) as connection:
        answer = questions.trend(connection, route, now=dt.datetime.now(dt.UTC), days=settings.days)
    print_answer(answer, TrendRow, output, lambda: print_trends(answer.rows, sys.stdout))
