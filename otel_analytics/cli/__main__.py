"""The command `otel-analytics`: one module a command, put together here.

A module of a command imports at its top only what its signature needs; drivers, numpy and rich are imported
by the function that uses them, so that `--help` is quick.
"""

import gc
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Final

try:
    import typer
except ModuleNotFoundError:
    sys.exit("otel-analytics: the package typer is needed; run: pip install 'otel-analytics[cli]'")
from typer.exceptions import TyperException

from otel_analytics._version import __version__
from otel_analytics.cli import (
    advise,
    audit,
    demo,
    dlq,
    doctor,
    errors,
    forget,
    keep,
    live,
    migrate,
    patterns,
    peaks,
    plan,
    rank,
    report,
    rollup,
    simulate,
    slow,
    trends,
    users,
    worker,
)
from otel_analytics.cli.context import CommandContext
from otel_analytics.errors import (
    OtelAnalyticsError,
    SettingsError,
    StoreUnavailable,
    StreamUnavailable,
    UsageError,
)

PROGRAM: Final = "otel-analytics"
_INSTALL: Final = "pip install 'otel-analytics[cli]'"
_FAILURE: Final = 1
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
OBJECTS_BEFORE_COLLECTING: Final = 100_000
"""What a command builds lasts to its end, and a worker's batch holds tens of thousands. To look for garbage
after every 700 new objects, as Python does, finds none, and takes a sixth of the time of `rank --by
savings`."""

app = typer.Typer(
    name=PROGRAM,
    help="Tells a backend team what to cache, and proves it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file instead of ./otel-analytics.toml.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")] = False,
    version: Annotated[  # noqa: ARG001 - the callback acts
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = CommandContext(config_file=config)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s"
        if debug
        else "%(asctime)s %(levelname)s %(message)s",
    )


app.command()(rank.rank)
app.command()(plan.plan)
app.command()(simulate.simulate)
app.command()(advise.advise)
app.command()(peaks.peaks)
app.command()(patterns.patterns)
app.command()(trends.trends)
app.command()(errors.errors)
app.command()(slow.slow)
app.command()(users.users)
app.command()(live.live)
app.command()(report.report)
app.command()(worker.worker)
app.command()(migrate.migrate)
app.command()(rollup.rollup)
app.command()(keep.keep)
app.command()(audit.audit)
app.add_typer(dlq.app, name="dlq")
app.command()(forget.forget)
app.command()(doctor.doctor)
app.command()(demo.demo)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 used wrongly."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTING)
    # What the terminal cannot show is shown in ASCII.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(sys.argv[1:])
    gc.freeze()  # or the interpreter looks once more
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    try:
        code = app(arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        _abandon_output()
        return 0
    except SystemExit as end:  # Typer and Rich end the program with 1 where the reader has seen enough
        if end.code != 1:
            raise
        _abandon_output()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place that could turn it into words
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(error, OSError):
            _abandon_output()
        return _complain(_words(error), _exit_code(error))
    return code if isinstance(code, int) else 0


def _abandon_output() -> None:
    """Let go of what could not be written, or the interpreter complains of it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(error: Exception) -> int:
    if isinstance(error, TyperException):
        return error.exit_code
    return _WRONG_USE if isinstance(error, (SettingsError, UsageError)) else _FAILURE


def _words(error: Exception) -> str:
    """What happened and what to do about it."""
    match error:
        case TyperException():
            # Typer keeps the command it happened in, and says so in no other way.
            command = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
            message = error.format_message().replace("Value error, ", "").removesuffix(".")
            return f"{message}; see: {command} --help"
        case StreamUnavailable() | StoreUnavailable():
            return f"{error} (to find out more, run: {PROGRAM} doctor)"
        case OtelAnalyticsError():
            return str(error)
        case ImportError():
            return f"the package {error.name} is needed; run: {_INSTALL}"
        case OSError():
            return f"{error.filename or 'output'}: {error.strerror or type(error).__name__}"
        case _:
            # Its message is not repeated: nobody knows what is in it.
            what = f"unexpected {type(error).__name__}, a mistake in this program"
            return f"{what}; to see where, run it again as: {PROGRAM} --debug ..."


def _complain(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
