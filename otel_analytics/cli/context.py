"""What commands share: the options before the command's name, and the settings and database they lead to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from otel_analytics import settings
from otel_analytics.errors import UsageError

if TYPE_CHECKING:
    from otel_analytics.store.connection import Connection


@dataclass(frozen=True)
class CommandContext:
    """The options that stand before the name of a command.

    Attributes:
        config_file: The TOML file named by `--config`, if any.
    """

    config_file: Path | None = None


def load_settings(context: typer.Context, **overrides: Any) -> settings.Settings:
    """The settings for a command.

    Args:
        context: Of the command.
        overrides: Setting name to what the command line says; None where it says nothing.

    Raises:
        SettingsError: A source holds something that cannot be used.
    """
    command: CommandContext = context.obj
    return settings.load(overrides, config_file=command.config_file)


def load_stream_settings(context: typer.Context) -> settings.Settings:
    """The settings for a command that is about the stream.

    Args:
        context: Of the command.

    Raises:
        SettingsError: A source holds something that cannot be used.
        UsageError: There is no stream, as the applications write straight to PostgreSQL.
    """
    found = load_settings(context)
    if found.exporter != "redis":
        raise UsageError(
            f"there is no stream with the setting exporter = {found.exporter}, so nothing to show or do"
        )
    return found


@contextmanager
def connected(found: settings.Settings) -> Iterator["Connection"]:
    """A connection to a database whose schema is the one this version was written for.

    Raises:
        SettingsError: The DSN cannot be used.
        NotMigrated: The database lacks tables.
        SchemaTooNew: The database belongs to a newer version.
        StoreUnavailable: PostgreSQL does not answer.
    """
    from otel_analytics.store import migrations
    from otel_analytics.store.connection import connect

    with connect(found.postgres_dsn) as connection:
        migrations.check(connection)
        yield connection
