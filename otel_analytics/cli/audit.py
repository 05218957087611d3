"""`otel-analytics audit`."""

import dataclasses
import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from otel_analytics.cli.arguments import TableOrJson
from otel_analytics.cli.context import load_stream_settings

if TYPE_CHECKING:
    from otel_analytics.ledger import AuditReport


def audit(
    context: typer.Context,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Account for every accepted event.

    Each is stored, a duplicate, a dead letter, or pending. Exits with 1 where one is missing.
    """
    settings = load_stream_settings(context)
    from otel_analytics import ledger
    from otel_analytics.store import migrations
    from otel_analytics.store.connection import connect
    from otel_analytics.stream import Inspector

    with (
        closing(Inspector(settings.redis_url, key_prefix=settings.key_prefix)) as stream,
        connect(settings.postgres_dsn) as connection,
    ):
        migrations.check(connection)
        report = ledger.audit(stream, connection)
    if output == "json":
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        typer.echo("\n".join(_statement(report)))
    if not report.balanced:
        raise typer.Exit(1)


def _as_json(report: "AuditReport") -> dict[str, object]:
    figures = dataclasses.asdict(report) | {"drops": dict(report.drops)}
    return {"balanced": report.balanced, "difference": report.difference, **figures}


def _statement(report: "AuditReport") -> list[str]:
    lines = []
    if report.epoch:
        lines += [f"Events since the stream began (epoch {report.epoch})", ""]
    elif report.balanced:
        lines += ["The ledger is empty: nothing was accepted yet.", ""]
    lines += [
        _line("accepted by Redis", report.accepted),
        _line("dead letters replayed", report.replayed, "+"),
        "",
        _line("stored", report.stored),
        _line("duplicates recognised", report.duplicates, "+"),
        _line("sent to the dead letters", report.dead, "+"),
        _line("pending on the stream", report.pending, "+"),
        "",
        _line("difference", report.difference) + f"   {_verdict(report)}",
        "",
        _line("entries on the dead-letter stream", report.dead_letters),
        _line("dead events purged for good", report.purged),
        _line("lost in earlier epochs", report.lost_in_earlier_epochs),
        _line("given up by applications", sum(report.drops.values())),
    ]
    return lines + [_line(f"  {reason}", events) for reason, events in sorted(report.drops.items())]


def _line(label: str, events: int, sign: str = " ") -> str:
    return f"{sign} {label:<36}{events:>18,}"


def _verdict(report: "AuditReport") -> str:
    if report.balanced:
        return "balanced"
    if report.difference > 0:
        return "MISSING"
    return "MORE than were accepted"
