"""`otel-analytics rank`."""

import datetime as dt
import sys
from typing import Annotated

import typer

from otel_analytics.cli.answers import Format, Top, print_data
from otel_analytics.cli.context import load_settings
from otel_analytics.cli.selection import Days, MinLatency, MinRequests, connected, print_remark
from otel_analytics.errors import UsageError


def rank(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    top: Top = None,
    days: Days = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Rank each against all others, without thresholds.")
    ] = False,
    min_requests: MinRequests = None,
    min_latency: MinLatency = None,
    output: Format = "table",
) -> None:
    """Rank what is worth caching.

    The score is requests an hour x 10 + p95 in ms / 100 + users an hour / 10, the last 10 at most; each is an
    average over the hours with traffic. With --relative it is 0.4 x the percentile of the p95 + 0.4 x that of
    the requests + 0.2 x that of the users, among all routes and parameter patterns, so that a slow route with
    little traffic surfaces. In brackets: the setting that is the default, and its own default.
    """
    if relative and not (min_requests is None and min_latency is None):
        raise UsageError("--relative has no thresholds; leave out --min-requests and --min-latency")
    settings = load_settings(
        context, top_n_routes=top, days=days, min_requests=min_requests, min_latency=min_latency
    )
    from otel_analytics import ranking
    from otel_analytics.present.rows import AbsoluteRow, RelativeRow

    compute = ranking.rank_relative if relative else ranking.rank_absolute
    now = dt.datetime.now(dt.UTC)
    with connected(settings) as connection:
        ranked = compute(connection, settings, now=now, true_p95=output != "table")
    print_data(ranked.rows, RelativeRow if relative else AbsoluteRow, output)
    if output == "table" and ranked.rows:
        from otel_analytics.present.tables import print_ranking

        print_ranking(ranked.rows, sys.stdout)
    print_remark(ranking.remark(ranked, settings), with_table=output == "table" and bool(ranked.rows))
