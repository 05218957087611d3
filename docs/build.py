"""Writes the pages that follow from the code: cli, fields, rules and settings. Run it with `make docs`."""

import dataclasses
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Before the help is made: it is wrapped to the width of the terminal.
os.environ["COLUMNS"] = "80"

import typer

from otel_analytics import advice
from otel_analytics.analyze.rules import RULES
from otel_analytics.cli.__main__ import PROGRAM, app
from otel_analytics.present import question_rows
from otel_analytics.present.advice import AdviceRow, RuleRow
from otel_analytics.present.rows import AbsoluteRow, PlanRow, RelativeRow, SavingsRow
from otel_analytics.settings import ENV_PREFIX, Settings

DOCS: Final = Path(__file__).parent
ROWS: Final[dict[str, Any]] = {
    "rank": AbsoluteRow,
    "rank --relative": RelativeRow,
    "rank --by savings": SavingsRow,
    "plan": PlanRow,
    "advise": AdviceRow,
    "advise --rules": RuleRow,
    "peaks": question_rows.PeakRow,
    "peaks --heatmap": question_rows.WeekRow,
    "patterns": question_rows.PatternRow,
    "trends": question_rows.TrendRow,
    "errors": question_rows.ErrorRow,
    "slow": question_rows.SlowRow,
    "users": question_rows.UserShareRow,
    "users --ids": question_rows.TopUserRow,
    "live": question_rows.LiveRow,
}


def pages() -> dict[str, str]:
    """File name to content, as the code has it."""
    return {"cli.md": cli(), "fields.md": fields(), "rules.md": rules(), "settings.md": settings()}


def cli() -> str:
    """The help of every command."""
    lines = [
        "# The command line",
        "",
        "Made from the program's own help by `make docs`. Settings come from the environment and",
        "`otel-analytics.toml`: see [settings.md](settings.md).",
        "",
        "Exit codes: 0 done, 1 failed, 2 used wrongly, 130 ended by Ctrl-C. Data go to standard output; log",
        "lines, remarks and errors to standard error.",
    ]
    root = typer.main.get_command(app)
    for name, command in _commands(PROGRAM, root):
        context = command.make_context(name, [], resilient_parsing=True)
        lines += ["", f"## {name}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, each in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {child}", each)


def fields() -> str:
    """The fields of every row, in JSON and CSV, over HTTP too."""
    lines = [
        "# Fields of JSON and CSV",
        "",
        "Made from the code by `make docs`. Names, order and precision are a promise: figures are rounded to",
        "three decimals, shares of 1 to four; times are ISO 8601 in UTC. A figure that cannot be told is",
        "null, in CSV an empty cell. `p50_latency_ms`, `p95_latency_ms` and `p99_latency_ms` are percentiles",
        "of all requests in the span, from the merged histogram; `avg_p95_latency_ms` is the average of the",
        "p95s of its hours.",
    ]
    for command, row in ROWS.items():
        meanings = _attributes(inspect.getdoc(row) or "")
        if missing := {name for name, text in meanings.items() if text.startswith("See ")}:
            known = _attributes(inspect.getdoc(AbsoluteRow) or "")
            meanings |= {name: known[name] for name in missing}
        lines += ["", f"## {command}", "", "| field | meaning |", "| --- | --- |"]
        lines += (f"| `{name}` | {meanings[name]} |" for name in row._fields)
    return "\n".join(lines) + "\n"


def rules() -> str:
    """Every rule as its docstring has it, with its thresholds."""
    lines = [
        "# The rules of advise",
        "",
        "Made from the code by `make docs`. `otel-analytics advise` gathers what is known of each route and",
        "method, and lets each rule find something or be silent; false alarms are worse than silence. A",
        "finding has a severity (`high`: much to gain, or somebody may see another's data; `medium`; `low`;",
        "`info`: true, and nothing need be done, shown with `--all`, a ROUTE or `--rule`), its figures, a",
        "statement that shows them (`--sql`, and in JSON), and what to do.",
        "",
        "What it reads: the raw requests of the span once, for the replay ([replay.md](replay.md)); the",
        f"hourly table; and the latest {advice.SAMPLE:,} raw requests of each route and method, for what is",
        "compared one by one, 0.15 s each time. Of the parameters of a route, the",
        f"{advice.MOST_PARAMS} used most are looked at. Two million requests of a hundred routes with two",
        "parameters each took a minute and a half on a machine with two cores, in 190 MB.",
        "Routes with fewer requests than the setting `min_evidence_requests` are left alone.",
        "",
        "Rules are switched and tuned in `otel-analytics.toml`; the environment cannot hold tables:",
        "",
        "```toml",
        "[rules.slow-tail]",
        "min_ratio = 20",
        "",
        "[rules.classic-score]",
        "enabled = true",
        "```",
        "",
        "`otel-analytics advise --rules` lists them as they are set. A name that does not exist is an error.",
    ]
    for rule in RULES:
        lines += ["", f"## {rule.id}", "", rule.text, ""]
        if not rule.enabled:
            lines += ["Off unless the file says `enabled = true`, or `--rule` names it.", ""]
        lines += ["| threshold | default | what it is |", "| --- | --- | --- |"]
        lines += (
            f"| `{name}` | `{limit.default:.12g}` | {limit.meaning} |" for name, limit in rule.limits.items()
        )
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Every setting with its default and its meaning."""
    meanings = _attributes(inspect.getdoc(Settings) or "")
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`. A keyword argument of `instrument()` wins over the environment,",
        "that over `otel-analytics.toml` in the working directory (or the file that `OTEL_ANALYTICS_CONFIG`",
        "or `--config` names), and that over the default. In the environment the name is in capitals with",
        f"`{ENV_PREFIX}` before it, such as `{ENV_PREFIX}REDIS_URL`; lists are separated by commas. Tables",
        "(`rules`) can stand in the file only. An unknown name is an error.",
        "",
        "| setting | default | meaning |",
        "| --- | --- | --- |",
    ]
    lines += (
        f"| `{field.name}` | {_shown(field.default)} | {meanings[field.name]} |"
        for field in dataclasses.fields(Settings)
    )
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if default in ("", (), dataclasses.MISSING):
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"`{default}`"


def _attributes(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", docstring, re.MULTILINE):
        found[name] = " ".join(text.split())
    return found


if __name__ == "__main__":
    for file, content in pages().items():
        (DOCS / file).write_text(content, encoding="utf-8")
