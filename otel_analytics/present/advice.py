"""Findings and rules as others read them: rows for programs, paragraphs for people."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from rich.text import Text

from otel_analytics.analyze.replay import History
from otel_analytics.analyze.rules import Active, Said
from otel_analytics.present.rows import params_of
from otel_analytics.present.tables import console_for
from otel_analytics.present.text import harmless, params_text

_STYLES: Final = {"high": "bold red", "medium": "bold yellow", "low": "bold", "info": "dim"}
_INDENT: Final = " " * 8
_ARROW: Final = " " * 5 + "-> "
_WIDEST: Final = 120
_NARROWEST: Final = 40
_DAY: Final = 86_400
_HOUR: Final = 3_600
_ENOUGH: Final = 0.9
"""Of the days asked for; less is said, as by the caveat `short history`."""
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_UNIT: Final = re.compile(r"(\d) (%|s|ms|bytes|kB|MB|GB)(?!\w)")


class AdviceRow(NamedTuple):
    """A finding.

    Attributes:
        rule: The rule that found it; see docs/rules.md.
        severity: `high`, `medium`, `low` or `info`.
        route: The template.
        method: A known HTTP method or `_OTHER`.
        query_params_normalized: The parameters that make the pattern; null where it is about the whole route.
        finding: What was found, in a sentence or two.
        advice: What to do.
        evidence: The figures, by names that are the rule's own.
        sql: A statement that shows what the figures rest on, to be run as it stands.
    """

    rule: str
    severity: str
    route: str
    method: str
    query_params_normalized: dict[str, Any] | None
    finding: str
    advice: str
    evidence: dict[str, Any]
    sql: str


class RuleRow(NamedTuple):
    """A rule as it is set.

    Attributes:
        rule: Its id.
        enabled: Whether it is on.
        summary: What it finds.
        thresholds: Name to an object: `value`, `default`, `meaning`.
        set_by_file: Which of `enabled` and the thresholds the settings file sets.
    """

    rule: str
    enabled: bool
    summary: str
    thresholds: dict[str, Any]
    set_by_file: list[str]


def advice_row(said: Said, sql: str) -> AdviceRow:
    """A finding as it is shown, with the statement that shows its figures."""
    found = said.finding
    return AdviceRow(
        rule=said.rule,
        severity=found.severity,
        route=said.route,
        method=said.method,
        query_params_normalized=None if found.pattern is None else params_of(found.pattern),
        finding=found.message,
        advice=found.advice,
        evidence=dict(found.evidence),
        sql=sql,
    )


def rule_rows(active: Iterable[Active]) -> list[RuleRow]:
    """The rules as they are shown."""
    return [
        RuleRow(
            rule=each.rule.id,
            enabled=each.enabled,
            summary=each.rule.summary,
            thresholds={
                name: {"value": each.limits[name], "default": limit.default, "meaning": limit.meaning}
                for name, limit in each.rule.limits.items()
            },
            set_by_file=sorted(each.set_by_file),
        )
        for each in active
    ]


def print_advice(rows: Sequence[AdviceRow], file: TextIO, *, with_sql: bool) -> None:
    """The findings, a paragraph each."""
    console = console_for(file)
    width = max(_NARROWEST, min(console.width, _WIDEST))
    for place, row in enumerate(rows):
        if place:
            console.print()
        head = Text(f"{row.severity:<8}", style=_STYLES[row.severity])
        head.append(f"{row.rule}  ", style="bold")
        console.print(head.append(_subject(row), style="cyan"), soft_wrap=True)
        for text, first in ((row.finding, _INDENT), (row.advice, _ARROW)):
            console.print(Text("\n".join(_wrapped(text, first, width))), soft_wrap=True)
        if with_sql:
            console.print(Text(f"\n{harmless(row.sql, keep=chr(10))};"), soft_wrap=True)


def print_rules(rows: Sequence[RuleRow], file: TextIO) -> None:
    """The rules, a paragraph each, with their thresholds."""
    console = console_for(file)
    width = max(_NARROWEST, min(console.width, _WIDEST))
    for place, row in enumerate(rows):
        if place:
            console.print()
        head = Text(row.rule, style="bold")
        head.append("" if row.enabled else "  off", style="bold yellow")
        console.print(head)
        console.print(Text("\n".join(_wrapped(row.summary, "    ", width))), soft_wrap=True)
        for name, limit in row.thresholds.items():
            changed = f" (default {limit['default']:.12g})" if name in row.set_by_file else ""
            text = f"{name} = {limit['value']:.12g}{changed}: {limit['meaning']}"
            lines = _wrapped(text, "      ", width - 2)
            console.print(Text("\n  ".join(lines)), soft_wrap=True)


def basis_line(history: History, routes: int, hidden: Mapping[str, int]) -> str:
    """What the findings rest on, and how many more there are.

    Args:
        history: What was replayed.
        routes: Routes and methods that were looked at.
        hidden: Severity to findings that are not shown.
    """
    coverage = (
        "coverage unknown, the ledger is empty"
        if history.coverage is None
        else f"coverage {int(history.coverage * 10_000) / 100:g} %"
    )
    short = history.seconds < _ENOUGH * history.asked_seconds
    asked = f" of the {history.asked_seconds / _DAY:g} days asked for" if short else ""
    more = sum(hidden.values())
    requests = f"{history.requests:,} requests of {routes:,} route{'' if routes == 1 else 's'}"
    return f"Based on {requests} in {_span(history.seconds)}{asked}; {coverage}." + (
        f" {more:,} more for information: --all." if more else ""
    )


def _span(seconds: float) -> str:
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} hours"
    return f"{seconds / _DAY:.1f} days"


def nothing_found(history: History, days: int, route: str | None) -> str:
    """Why there is no finding."""
    if not history.requests:
        last_days = f"the last {days} days" if days > 1 else "the last day"
        return f"No raw requests{f' of {harmless(route)}' if route else ''} in {last_days}."
    return "Nothing to advise."


def _subject(row: AdviceRow) -> str:
    params = "" if row.query_params_normalized is None else f"  {params_text(row.query_params_normalized)}"
    return f"{harmless(row.method)} {harmless(row.route)}{params}"


def _wrapped(text: str, first: str, width: int) -> list[str]:
    """Lines of so many columns, which do not part a figure from its unit."""
    lines = textwrap.wrap(
        _UNIT.sub(rf"\1{_NO_BREAK}\2", harmless(text)),
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]
