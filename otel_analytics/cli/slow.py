"""`otel-analytics slow`."""

import datetime as dt
import sys
from typing import Annotated

import typer

from otel_analytics.analyze.routes import SlowOrder
from otel_analytics.cli.arguments import Days, Format, Top
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer


def slow(
    context: typer.Context,
    top: Top = None,
    days: Days = None,
    order: Annotated[
        SlowOrder,
        typer.Option("--sort", help="By the p95, or by the seconds spent in all on the route."),
    ] = "p95",
    output: Format = "table",
) -> None:
    """Show the slowest routes.

    The percentiles are those of all requests in the span, not averages of hourly ones.
    """
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import SlowRow
    from otel_analytics.present.question_tables import print_slow

    with connected(settings) as connection:
        answer = questions.slow(
            connection,
            now=dt.datetime.now(dt.UTC),
            days=settings.days,
            order=order,
            limit=settings.top_n_routes,
            with_courses=output == "table",
        )
    print_answer(answer, SlowRow, output, lambda: print_slow(answer.rows, answer.courses, sys.stdout))
