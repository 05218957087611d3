"""`otel-analytics advise`."""

import datetime as dt
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from otel_analytics.cli.arguments import Days, OneRoute, TableOrJson, checked_route
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_data, print_remark
from otel_analytics.cli.progress import Progress

if TYPE_CHECKING:
    from otel_analytics.settings import Settings

_INFO = "info"


def advise(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    route: OneRoute = None,
    days: Days = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="ID", help="Only this rule, be it on or off; may be repeated."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Also what is for information only, as it is with a ROUTE or a --rule anyway."
        ),
    ] = False,
    with_sql: Annotated[
        bool, typer.Option("--sql", help="Under each finding, a statement that shows its figures.")
    ] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules and their thresholds instead.")
    ] = False,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Say what to cache and how, what never to share, and what else stands out.

    Each finding names the rule, what it is about, the figures it rests on and what to do. It comes from the
    recorded requests: a replay of them through a cache, and comparisons of their bodies. Rules are switched
    and tuned in the settings file, such as enabled = false or min_ratio = 20 in [rules.slow-tail];
    docs/rules.md has them all. JSON has the statements, too.
    """
    checked_route(route)
    settings = load_settings(context, days=days)
    if rules:
        _list_rules(settings, output)
        return
    from otel_analytics import advice
    from otel_analytics.analyze.rules import chosen, configured
    from otel_analytics.present import advice as words

    # What is used wrongly is said before anything is asked of a server.
    chosen(configured(settings.rules), rule or ())
    with connected(settings) as connection, Progress() as progress:
        found = advice.advise(
            connection,
            settings,
            now=dt.datetime.now(dt.UTC),
            route=route,
            rules=rule or (),
            progress=progress.show,
        )
    shown = [row for row in found.rows if everything or route is not None or rule or row.severity != _INFO]
    hidden = Counter(row.severity for row in found.rows)
    hidden.subtract(row.severity for row in shown)
    print_data(shown, words.AdviceRow, output)
    with_table = output == "table" and bool(shown)
    if with_table:
        words.print_advice(shown, sys.stdout, with_sql=with_sql)
    remark = words.basis_line(found.history, found.routes, hidden)
    if not shown:
        nothing = words.nothing_found(found.history, settings.days, route)
        remark = f"{nothing} {remark}" if found.history.requests else nothing
    print_remark(remark, with_table=with_table)


def _list_rules(settings: "Settings", output: TableOrJson) -> None:
    from otel_analytics.analyze.rules import configured
    from otel_analytics.present import advice as words

    rows = words.rule_rows(configured(settings.rules).values())
    print_data(rows, words.RuleRow, output)
    if output == "table":
        words.print_rules(rows, sys.stdout)
        print_remark(
            "Set in otel-analytics.toml, such as enabled = false or a threshold in [rules.slow-tail]; the"
            " environment cannot hold tables.",
            with_table=True,
        )
