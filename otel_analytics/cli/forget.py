"""`otel-analytics forget`."""

import dataclasses
import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from otel_analytics.cli.arguments import TableOrJson
from otel_analytics.cli.context import load_settings
from otel_analytics.cli.words import counted
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.forgetting import Forgotten


def forget(
    context: typer.Context,
    user: Annotated[str, typer.Option("--user", metavar="ID", help="As the application names the user.")],
    mentions: Annotated[
        bool | None,
        typer.Option(
            "--mentions/--no-mentions",
            help="Hide the id in paths and parameters of other users' requests as well."
            " [where it has 6 characters or more and is no number]",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Annotated[TableOrJson, typer.Option("--format", help="For people or for programs.")] = "table",
) -> None:
    """Remove a user from every table, the stream and the dead letters.

    Needs the role that owns the tables, and a worker that has stored what is on the stream. Hourly figures
    are recomputed without the user's requests.
    """
    if not user.strip():
        raise UsageError("--user is empty: give the id as the application names the user")
    if not yes and not sys.stdin.isatty():
        raise UsageError("to forget somebody where nobody can be asked, say --yes")
    settings = load_settings(context)
    from otel_analytics.present.text import harmless

    question = f"Remove everything of the user {harmless(user)} for good?"
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    from otel_analytics.cli.progress import Progress
    from otel_analytics.forgetting import Person
    from otel_analytics.forgetting import forget as forget_person
    from otel_analytics.store import migrations
    from otel_analytics.store.connection import connect

    person = Person(user, settings, mentions=mentions)
    with connect(settings.postgres_dsn) as connection, Progress() as progress:
        migrations.check(connection)
        done = forget_person(
            connection, settings, person, now=dt.datetime.now(dt.UTC), progress=progress.show
        )
    if output == "json":
        typer.echo(json.dumps(dataclasses.asdict(done), indent=2))
        return
    typer.echo("\n".join(_statement(done)))
    if person.mention is None:
        typer.echo(
            "Paths and parameters of other users' requests were not searched for the id, as it may mean"
            " anything there; to do that, say --mentions.",
            err=True,
        )
    typer.echo(
        "Not reached from here: backups, the write-ahead log until it is recycled, free space in table files"
        " until it is used again, and events that applications still hold in memory.",
        err=True,
    )


def _statement(done: "Forgotten") -> list[str]:
    lines = [
        f"removed     {counted(done.events, 'event')} of the user",
        f"hid         the id in {counted(done.mentions, 'event')} of others",
        f"recomputed  {counted(done.hours, 'hour')}",
        f"cleared     {counted(done.patterns, 'row')} of figures and rankings that named the user",
    ]
    if done.file_rewritten is not None:
        lines += [
            f"took off    {counted(done.entries, 'stored entry', 'stored entries')} from the stream",
            f"discarded   {counted(done.letters, 'dead letter')}",
            "rewriting   the append-only file of Redis"
            if done.file_rewritten
            else "not allowed to rewrite the append-only file of Redis; to do it: redis-cli BGREWRITEAOF",
        ]
    return lines
