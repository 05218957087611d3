"""`otel-analytics users`."""

import datetime as dt
import sys
from typing import Annotated

import typer

from otel_analytics.cli.arguments import Days, Format, OneRoute, Top, checked_route
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_answer
from otel_analytics.errors import UsageError


def users(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    route: OneRoute = None,
    top: Top = None,
    days: Days = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Name the users with most requests, as they are stored.")
    ] = False,
    output: Format = "table",
) -> None:
    """Say how concentrated traffic is on few users, without naming any.

    By the raw requests, as far back as they are kept. With --ids, -n users are named.
    """
    route = checked_route(route)
    if top is not None and not ids:
        raise UsageError("-n is for --ids, the list of single users; without it there is none")
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics import questions
    from otel_analytics.present.question_rows import TopUserRow, UserShareRow
    from otel_analytics.present.question_tables import print_top_users, print_user_shares

    now = dt.datetime.now(dt.UTC)
    with connected(settings) as connection:
        if ids:
            named = questions.top_users(
                connection, now=now, days=settings.days, route=route, limit=settings.top_n_routes
            )
        else:
            shares = questions.user_shares(connection, now=now, days=settings.days, route=route)
    if ids:
        print_answer(named, TopUserRow, output, lambda: print_top_users(named.rows, sys.stdout))
    else:
        print_answer(shares, UserShareRow, output, lambda: print_user_shares(shares.rows, sys.stdout))
