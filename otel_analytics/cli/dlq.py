"""`otel-analytics dlq`: what could not be stored, and what is to become of it."""

import datetime as dt
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics.cli.arguments import TableOrJson, utc_moment
from otel_analytics.cli.context import load_stream_settings
from otel_analytics.cli.words import counted
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.stream import DeadLetter, DeadLetters

_ID: Final = re.compile(r"\d{1,19}-\d{1,19}")
_WIDEST: Final = 120
_LABEL: Final = "  payload  "

app = typer.Typer(help="List, replay or purge events that cannot be stored.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `dlq list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All letters there are now.")]


@app.command("list")
def list_(
    context: typer.Context,
    count: Annotated[
        int, typer.Option("-n", min=1, max=1_000_000, help="Letters to show, oldest first.")
    ] = 20,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Show dead letters: why, since when, and what they hold."""
    with _dead_letters(context) as letters:
        page = letters.page(count)
        total = letters.count()
    if output == "json":
        typer.echo(json.dumps([_as_json(letter) for letter in page], indent=2))
        return
    for letter in page:
        typer.echo("\n".join(_as_text(letter)) + "\n")
    typer.echo(f"{len(page):,} of {counted(total, 'dead letter')}" if total else "no dead letters")


@app.command()
def replay(context: typer.Context, ids: Ids = None, everything: All = False) -> None:
    """Put letters back on the stream, for a worker that can store them now."""
    _check_choice(ids, everything)
    with _dead_letters(context) as letters:
        chosen = letters.ids() if everything else ids or []
        done = letters.replay(_with_progress(chosen, "replaying"))
    _conclude("replayed", done, ids)


@app.command()
def purge(
    context: typer.Context,
    ids: Ids = None,
    everything: All = False,
    before: Annotated[
        dt.datetime | None,
        typer.Option(parser=utc_moment, metavar="TIME", help="With --all: only older ones; UTC."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Discard letters for good. The ledger keeps count of them."""
    _check_choice(ids, everything)
    if before is not None and not everything:
        raise UsageError("--before goes with --all")
    if not yes and not sys.stdin.isatty():
        raise UsageError("to purge where nobody can be asked, say --yes")
    with _dead_letters(context) as letters:
        before_ms = None if before is None else max(0, int(before.timestamp() * 1_000))
        chosen = letters.ids(before_ms) if everything else ids or []
        question = f"Discard {counted(len(chosen), 'dead letter')} for good?"
        if chosen and not yes and not typer.confirm(question, err=True):
            raise typer.Exit(1)
        done = letters.purge(_with_progress(chosen, "purging"))
    _conclude("purged", done, ids)


@contextmanager
def _dead_letters(context: typer.Context) -> Iterator["DeadLetters"]:
    settings = load_stream_settings(context)
    from otel_analytics.stream import DeadLetters

    with closing(DeadLetters(settings.redis_url, key_prefix=settings.key_prefix)) as letters:
        yield letters


def _check_choice(ids: list[str] | None, everything: bool) -> None:
    if bool(ids) == everything:
        raise UsageError("name the ids of the letters, or say --all")
    for letter_id in ids or []:
        if not _ID.fullmatch(letter_id):
            raise UsageError(f"{letter_id!r} is not the id of a letter, which looks like 1764000000000-0")


def _with_progress(ids: list[str], doing: str) -> Iterable[str]:
    from otel_analytics.cli.progress import Progress

    with Progress() as progress:
        for place, letter_id in enumerate(ids, 1):
            progress.show(f"{doing} {place:,} of {len(ids):,}")
            yield letter_id


def _conclude(what: str, done: int, ids: list[str] | None) -> None:
    """Say how many letters there were; a letter that was named and is not there is a failure."""
    typer.echo(f"{what} {counted(done, 'dead letter')}")
    absent = len(set(ids or [])) - done
    if absent > 0:
        typer.echo(f"{absent:,} of those named are not there; see: otel-analytics dlq list", err=True)
        raise typer.Exit(1)


def _as_json(letter: "DeadLetter") -> dict[str, object]:
    return {**letter._asdict(), "payload": letter.payload.decode(errors="backslashreplace")}


def _as_text(letter: "DeadLetter") -> list[str]:
    room = min(shutil.get_terminal_size((_WIDEST, 0)).columns, _WIDEST) - len(_LABEL)
    payload = harmless(letter.payload[: 4 * _WIDEST].decode(errors="backslashreplace"))
    cut = payload if len(payload) <= room else payload[: room - 3] + "..."
    return [
        letter.id,
        f"  reason   {harmless(letter.reason)}",
        f"  found    {harmless(letter.at)}, in entry {harmless(letter.entry)}",
        f"  events   {letter.events:,}",
        f"{_LABEL}{cut or '(none)'}",
    ]


def harmless(text: str) -> str:
    """The text with what would move the cursor, turn the writing direction or hide made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
