"""`otel-analytics worker`."""

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics._version import __version__
from otel_analytics.cli.context import CommandContext, load_settings
from otel_analytics.cli.keeper import keeping_rankings
from otel_analytics.cli.words import counted

if TYPE_CHECKING:
    from otel_analytics.settings import Settings

_log = logging.getLogger(__name__)

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def worker(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Do what there is to do, then exit.")] = False,
) -> None:
    """Move events to PostgreSQL, roll up, keep partitions.

    Runs until SIGTERM or Ctrl-C, which let it finish the batch in hand; a second one ends it at once. Several
    workers may run side by side. With the setting exporter = "postgres" there is no stream to drain. Every
    rankings_interval_seconds the rankings are kept, see keep; not with --once.
    """
    stop = _stop_on_signal()
    settings = load_settings(context)
    from otel_analytics.worker import Worker

    if once:
        _run_once(settings, stop)
        return
    _log.info("worker of otel-analytics %s started, process %d", __version__, os.getpid())
    command: CommandContext = context.obj
    with Worker(settings) as running, keeping_rankings(settings, command.config_file, stop):
        running.run(stop)
    _log.info("stopped")


def _run_once(settings: "Settings", stop: threading.Event) -> None:
    from otel_analytics.cli.progress import Progress
    from otel_analytics.worker import Worker

    began = time.monotonic()
    with Worker(settings) as running, Progress() as progress:
        total = _entries_waiting(settings) if progress.visible else ""
        run = running.run_once(
            stop,
            lambda done: progress.show(
                f"{done.entries:,}{total} entries done, {done.stored:,} events stored"
            ),
        )
    events = run.events
    typer.echo(
        f"stored {counted(events.stored, 'event')}"
        f" ({counted(events.duplicates, 'duplicate')}, {events.dead:,} dead)"
        f" and recomputed {counted(run.hours, 'hour')} in {time.monotonic() - began:.1f} s"
    )


def _entries_waiting(settings: "Settings") -> str:
    """How many entries there are to do, in words; nothing where that is not known."""
    if settings.exporter != "redis":
        return ""
    from contextlib import closing

    from otel_analytics.stream.inspector import LAG_LIMIT, Inspector

    with closing(Inspector(settings.redis_url, key_prefix=settings.key_prefix)) as inspector:
        status = inspector.status()
    return "" if status.undelivered == LAG_LIMIT else f" of {status.pending + status.undelivered:,}"


def _stop_on_signal() -> threading.Event:
    """An event that the first signal sets; the second one ends the process.

    The signals are blocked and a thread waits for them, because a handler would run in the middle of
    whatever the main thread does, even while it holds the lock of the very event. It also works for process
    1 of a container, for which the kernel drops signals without a handler.
    """
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    def wait() -> None:
        received = signal.Signals(signal.sigwait(_STOP_SIGNALS))
        _log.info("%s: finishing the batch in hand; a second signal ends at once", received.name)
        stop.set()
        os._exit(128 + signal.sigwait(_STOP_SIGNALS))

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop
