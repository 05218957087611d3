"""What every command shares: the options before the command's name, and the settings they lead to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from otel_analytics import settings


@dataclass(frozen=True)
class CommandContext:
    """The options that stand before the name of a command.

    Attributes:
        config_file: The TOML file named by `--config`, if any.
        debug: Whether a failure shows its traceback, and log lines of every level appear.
    """

    config_file: Path | None = None
    debug: bool = False


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
