"""`otel-analytics rank`."""

import datetime as dt
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from otel_analytics.cli.arguments import (
    Days,
    Format,
    MinLatency,
    MinRequests,
    TableJsonOrCsv,
    Top,
    checked_route,
    memory_size,
)
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.explain import print_explanations
from otel_analytics.cli.output import print_data, print_remark
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.settings import Settings

RankedBy = Literal["absolute", "relative", "savings"]


def rank(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    top: Top = None,
    days: Days = None,
    by: Annotated[
        RankedBy | None,
        typer.Option("--by", help="By score, against all others, or by what a cache saves. [absolute]"),
    ] = None,
    relative: Annotated[bool, typer.Option("--relative", help="Short for --by relative.")] = False,
    budget: Annotated[
        int | None,
        typer.Option(
            parser=memory_size,
            metavar="SIZE",
            help="With --by savings: the best set in so much memory, such as 512MB.",
        ),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="ROUTE", help="Say why a route stands where it does in all three.")
    ] = None,
    min_requests: MinRequests = None,
    min_latency: MinLatency = None,
    output: Format = "table",
) -> None:
    """Rank what is worth caching.

    The score is requests an hour x 10 + p95 in ms / 100 + users an hour / 10, the last 10 at most; each is an
    average over the hours with traffic. With --relative it is 0.4 x the percentile of the p95 + 0.4 x that of
    the requests + 0.2 x that of the users, among all routes and parameter patterns, so that a slow route with
    little traffic surfaces. With --by savings it is the seconds an hour that a cache would have saved, by a
    replay of the raw requests, at the time to live and with the key that save most with no more stale answers
    than staleness_limit allows; docs/rankings.md has the rules. In brackets: the setting that is the default,
    and its own default.
    """
    by = _ranked_by(by, relative=relative)
    if by != "absolute" and not (min_requests is None and min_latency is None):
        named = "--relative" if relative else f"--by {by}"
        raise UsageError(f"{named} has no thresholds; leave out --min-requests and --min-latency")
    if budget is not None and by != "savings":
        raise UsageError("--budget needs --by savings")
    if explain is not None and (by != "absolute" or output != "table" or top is not None):
        raise UsageError(
            "--explain tells of all rankings in words; leave out -n, --by, --relative and --format"
        )
    checked_route(explain)
    settings = load_settings(
        context, top_n_routes=top, days=days, min_requests=min_requests, min_latency=min_latency
    )
    if explain is not None:
        print_explanations(settings, explain)
    elif by == "savings":
        _by_savings(settings, output, budget)
    else:
        _by_score(settings, output, by)


def _ranked_by(by: RankedBy | None, *, relative: bool) -> RankedBy:
    if relative and by not in {None, "relative"}:
        raise UsageError(f"--relative is short for --by relative; leave it out for --by {by}")
    return by or ("relative" if relative else "absolute")


def _by_score(settings: "Settings", output: TableJsonOrCsv, by: Literal["absolute", "relative"]) -> None:
    from otel_analytics import ranking
    from otel_analytics.present.rows import AbsoluteRow, RelativeRow

    compute: Any = ranking.rank_relative if by == "relative" else ranking.rank_absolute
    with connected(settings) as connection:
        ranked = compute(connection, settings, now=dt.datetime.now(dt.UTC), true_p95=output != "table")
    print_data(ranked.rows, RelativeRow if by == "relative" else AbsoluteRow, output)
    with_table = output == "table" and bool(ranked.rows)
    if with_table:
        from otel_analytics.present.tables import print_ranking

        print_ranking(ranked.rows, sys.stdout)
    print_remark(ranking.remark(ranked, settings), with_table=with_table)


def _by_savings(settings: "Settings", output: TableJsonOrCsv, budget: int | None) -> None:
    from otel_analytics import savings
    from otel_analytics.present.rows import SavingsRow

    with connected(settings) as connection:
        ranked = savings.rank_savings(connection, settings, now=dt.datetime.now(dt.UTC), budget_bytes=budget)
    rows = ranked.rows
    print_data(rows, SavingsRow, output)
    with_table = output == "table" and bool(rows)
    if with_table:
        from otel_analytics.present.savings import print_savings

        print_savings(rows, sys.stdout)
    print_remark(ranked.remark, with_table=with_table)
