"""`otel-analytics doctor`."""

import json
import os
import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics import settings
from otel_analytics.cli.arguments import TableOrJson
from otel_analytics.cli.context import CommandContext, load_settings
from otel_analytics.cli.words import counted

if TYPE_CHECKING:
    from otel_analytics.findings import Finding

_WIDEST: Final = 120


def doctor(
    context: typer.Context,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Look for what is wrong and say what to do.

    Looks at the settings, Redis, the stream, PostgreSQL, the clocks and the metrics directory, and changes
    nothing. Exits with 1 where there is a problem; warnings leave it at 0.
    """
    loaded = load_settings(context)
    from otel_analytics.doctor import examine

    found = [_settings_finding(context.obj), *examine(loaded, os.environ)]
    if output == "json":
        typer.echo(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        typer.echo("\n".join(_table(found, min(shutil.get_terminal_size().columns, _WIDEST))))
    if any(finding.level == "problem" for finding in found):
        raise typer.Exit(1)


def _settings_finding(command: CommandContext) -> "Finding":
    from otel_analytics.findings import Finding

    path, variables = settings.source(config_file=command.config_file)
    if path and (exposed := settings.exposed_secrets(path)):
        message = f"every user of this machine may read {path}, which holds {', '.join(exposed)}"
        return Finding("settings", "warning", message, f"chmod o-r {path}")
    sources = ([str(path)] if path else []) + variables
    message = (
        f"from {', '.join(sources)}" if sources else "all defaults: no file, and no OTEL_ANALYTICS_ variable"
    )
    return Finding("settings", "ok", message)


def _table(found: "list[Finding]", width: int) -> list[str]:
    column = max(len(finding.check) for finding in found)
    lines: list[str] = []
    for finding in found:
        head = f"{finding.level:<7}  {finding.check:<{column}}  "
        lines += _wrapped(head, finding.message, width)
        if finding.advice:
            lines += _wrapped(" " * (len(head) - 3) + "-> ", finding.advice, width)
    problems, warnings = (sum(each.level == level for each in found) for level in ("problem", "warning"))
    return [*lines, "", f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}"]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(head) + 20),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
