"""The worker's side of kept rankings: a process of its own makes them, now and then.

A replay of millions of requests in the worker itself would hold up the draining, and its memory would stay.
"""

import datetime as dt
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_analytics.errors import OtelAnalyticsError

if TYPE_CHECKING:
    from otel_analytics.settings import Settings

_log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 1_800.0
"""What takes longer is given up; ten million requests take half a minute."""
_LOOK_SECONDS: Final = 15.0
"""How often to look whether rankings are due, which costs two quick queries."""
_QUERY_SECONDS: Final = 5.0
"""What such a query may take."""
_REST_SECONDS: Final = 300.0
"""After a process, whatever came of it: what fails or finds nothing does so again."""
_POLL_SECONDS: Final = 0.2
_END_SECONDS: Final = 5.0
"""How long the process may take to end once it is told to."""


@contextmanager
def keeping_rankings(settings: "Settings", config_file: Path | None, stop: threading.Event) -> Iterator[None]:
    """Keep the rankings whenever they are due, until the block or `stop` ends it.

    Whatever fails is logged and tried again later. At the end no process is left; should this process be
    killed, the one it has started still ends by itself, once it is done or its statements have timed out.

    Args:
        settings: All of them; nothing happens where `rankings_interval_seconds` is 0.
        config_file: The settings file that the command line names, if any.
        stop: Once set, no rankings are begun, and those under way are given up.
    """
    if not settings.rankings_interval_seconds:
        yield
        return
    config = [] if config_file is None else ["--config", str(config_file)]
    interval = ["--if-older-than", f"{settings.rankings_interval_seconds:g}"]
    command = [sys.executable, "-m", "otel_analytics.cli", *config, "keep", *interval]
    # A daemon, so that a server that hangs cannot keep the worker from ending.
    thread = threading.Thread(target=_run, args=(command, settings, stop), name="rankings", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * _END_SECONDS)


def _run(command: Sequence[str], settings: "Settings", stop: threading.Event) -> None:
    pause = 0.0
    while not stop.wait(pause):
        pause = _LOOK_SECONDS
        try:
            if _is_due(settings):
                pause = min(_REST_SECONDS, settings.rankings_interval_seconds)
                _keep(command, stop)
        except OtelAnalyticsError as error:
            _log.debug("cannot tell whether rankings are due: %s", error)  # the worker says what is wrong
        except OSError as error:
            _log.warning("rankings were not kept: %s", error.strerror)


def _is_due(settings: "Settings") -> bool:
    """Whether the last rankings are old enough, and there may be something to rank."""
    from otel_analytics.store import kept_rankings, rankings
    from otel_analytics.store.connection import connect, limit_statements

    now = dt.datetime.now(dt.UTC)
    with connect(settings.postgres_dsn) as connection:
        limit_statements(connection, _QUERY_SECONDS)
        kept = kept_rankings.latest(connection)
        if kept is not None and kept > now - dt.timedelta(seconds=settings.rankings_interval_seconds):
            return False
        latest_hour = rankings.latest_hour(connection)
        return latest_hour is not None and latest_hour >= now - dt.timedelta(days=settings.days)


def _keep(command: Sequence[str], stop: threading.Event) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = ""
        while process.returncode is None:
            try:
                said, _ = process.communicate(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > deadline:
                    said = f"they took more than {LONGEST_SECONDS:,.0f} s"
                    _end(process)
    if stop.is_set():
        return
    line = next(reversed(said.strip().splitlines()), f"exit code {process.returncode}")
    if process.returncode:
        _log.warning("rankings were not kept: %s", line)
    else:
        _log.info("%s", line)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
