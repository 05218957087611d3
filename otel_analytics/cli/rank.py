"""`otel-analytics rank`."""

import datetime as dt
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from otel_analytics.cli.context import load_settings
from otel_analytics.cli.selection import Days, MinLatency, MinRequests, connected, print_remark
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.present.rows import AbsoluteRow, RelativeRow
    from otel_analytics.ranking import Ranking
    from otel_analytics.settings import Settings

TableJsonOrCsv = Literal["table", "json", "csv"]


def rank(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    top: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, max=1_000_000, help="Rows to show. [top_n_routes, 20]"),
    ] = None,
    days: Days = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Rank each against all others, without thresholds.")
    ] = False,
    min_requests: MinRequests = None,
    min_latency: MinLatency = None,
    output: Annotated[TableJsonOrCsv, typer.Option("--format", help="For people or for programs.")] = "table",
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
    from otel_analytics.present.documents import csv_text, json_text
    from otel_analytics.present.rows import AbsoluteRow, RelativeRow

    compute = ranking.rank_relative if relative else ranking.rank_absolute
    now = dt.datetime.now(dt.UTC)
    with connected(settings) as connection:
        ranked = compute(connection, settings, now=now, true_p95=output != "table")
    if output == "json":
        typer.echo(json_text(ranked.rows))
    elif output == "csv":
        fields = RelativeRow._fields if relative else AbsoluteRow._fields
        sys.stdout.write(csv_text(ranked.rows, fields))
    elif ranked.rows:
        from otel_analytics.present.tables import print_ranking

        print_ranking(ranked.rows, sys.stdout)
    print_remark(_remark(ranked, settings), with_table=output == "table" and bool(ranked.rows))


def _remark(ranked: "Ranking[AbsoluteRow] | Ranking[RelativeRow]", settings: "Settings") -> str:
    from otel_analytics.present import remarks

    if ranked.rows:
        return remarks.basis_line(ranked.basis)
    if ranked.candidates:
        return remarks.none_above(
            ranked.candidates, min_requests=settings.min_requests, min_latency=settings.min_latency
        )
    return remarks.nothing_found(ranked.basis)
