"""`otel-analytics plan`."""

import datetime as dt
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from otel_analytics.cli.arguments import Days, MinLatency, MinRequests, TableOrJson
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_remark

if TYPE_CHECKING:
    from otel_analytics.present.rows import PlanRow
    from otel_analytics.ranking import Ranking
    from otel_analytics.settings import Settings


def plan(
    context: typer.Context,
    days: Days = None,
    min_requests: MinRequests = None,
    min_latency: MinLatency = None,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Say what a caching layer should cache.

    That is what rank scores above the setting cache_score_threshold (50), where the method is GET or HEAD and
    no more than half of the answers are errors.
    The pages to cache are the first ones, as many as the setting pages_to_cache_per_route says (1): each form
    in which 1 % or more of the pattern's requests asked for them, among the latest 5,000 raw requests of the
    route. A question mark stands where none of these was of the pattern.

    The key is all where enough users got the same bodies, and user where some got others: a copy for one must
    not be shown to another. A question mark stands where that is not known.
    """
    settings = load_settings(context, days=days, min_requests=min_requests, min_latency=min_latency)
    from otel_analytics import ranking
    from otel_analytics.present.documents import json_text

    with connected(settings) as connection:
        planned = ranking.plan(connection, settings, now=dt.datetime.now(dt.UTC))
    if output == "json":
        typer.echo(json_text(planned.rows))
    elif planned.rows:
        from otel_analytics.present.tables import print_plan

        print_plan(planned.rows, sys.stdout)
    print_remark(_remark(planned, settings), with_table=output == "table" and bool(planned.rows))


def _remark(planned: "Ranking[PlanRow]", settings: "Settings") -> str:
    from otel_analytics.present import remarks

    if planned.rows:
        return remarks.basis_line(planned.basis)
    if planned.candidates:
        return remarks.none_to_cache(planned.candidates, threshold=settings.cache_score_threshold)
    return remarks.nothing_found(planned.basis)
