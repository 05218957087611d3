"""`otel-analytics errors`."""

import datetime as dt
import sys
from typing import Annotated

import typer

from otel_analytics.analyze.routes import ErrorOrder
from otel_analytics.cli.arguments import Days, Format, Top
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer


def errors(
    context: typer.Context,
    top: Top = None,
    days: Days = None,
    order: Annotated[
        ErrorOrder, typer.Option("--sort", help="By the number of 5xx, or their share.")
    ] = "count",
    output: Format = "table",
) -> None:
    """Show the routes that answer 5xx and 4xx.

    The kinds of 5xx are those seen in the last 12 hours that had some, among the last 5,000 raw requests of
    the route in each.
    """
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import ErrorRow
    from otel_analytics.present.question_tables import print_errors

    with connected(settings) as connection:
        answer = questions.errors(
            connection,
            now=dt.datetime.now(dt.UTC),
            days=settings.days,
            order=order,
            limit=settings.top_n_routes,
        )
    print_answer(answer, ErrorRow, output, lambda: print_errors(answer.rows, sys.stdout))
