"""The directory in which the worker processes of one application add up their metrics.

At its import, prometheus_client looks for PROMETHEUS_MULTIPROC_DIR and decides once and for all whether its
values live in this process or in files there. So this module does not import it.

Processes are told apart by /proc. Where there is none (macOS), a directory has to be named, and what an
earlier run has left in it is not removed.
"""

import fcntl
import logging
import multiprocessing
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from otel_analytics.errors import SettingsError

_log = logging.getLogger(__name__)

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_MEMBERS: Final = "otel-analytics.run"
_FILE_NAME: Final = re.compile(r"(counter|gauge_[a-z]+|histogram|summary)_(\d+)(?:-\d+)?\.db")
"""What prometheus_client calls the files of a process; `archive` adds a number to those it has put aside."""
GENERATION: Final = "otel-analytics.dead-"
"""Begins the names of the directories for what dead processes have counted; a number follows."""
_HAS_PROC: Final = Path("/proc/self/stat").exists()
_SLACK_SECONDS: Final = 0.1
"""The clocks of files and of processes go in steps of up to 10 ms."""


class MetricFile(NamedTuple):
    """One of the files in which a process keeps its values.

    Attributes:
        path: Where it is.
        kind: Which metrics it holds: `counter`, `histogram`, `summary`, or `gauge_` and how those of several
            processes become one.
        pid: Of the process that made it.
    """

    path: Path
    kind: str
    pid: int

    @property
    def ends_with_its_process(self) -> bool:
        """Whether it says nothing any more once the process is gone.

        That is meant by `live`, and so it is with a series for each process, of which there would be more and
        more.
        """
        return self.kind.startswith("gauge_live") or self.kind == "gauge_all"


def prepare(environ: MutableMapping[str, str]) -> None:
    """Make sure that all workers of this server share their metrics. Once in a process that serves requests.

    A directory named by PROMETHEUS_MULTIPROC_DIR is made if it is missing. What an earlier run left in it is
    removed; what dead workers of this run counted stays. A run lasts as long as any of the processes that
    prepared the directory, or the server above them.

    Where the variable is not set and the process is the worker of a server above it (uvicorn, gunicorn, any
    that uses multiprocessing), it is set: to a private directory in the folder for temporary files.

    Args:
        environ: The environment of this process, as prometheus_client will read it.

    Raises:
        SettingsError: The directory that is named cannot be used.
    """
    server = _server_pid()
    named = environ.get(VARIABLE)
    if named is None and server is None:
        return
    if _is_too_late():
        _log.warning(
            "otel-analytics: prometheus_client was imported without %s, so metrics are those of one process;"
            " if several serve requests, set the variable to a directory before they start",
            VARIABLE,
        )
    elif named is not None:
        _prepare_named(named, _identity(server or os.getpid()) or _identity(os.getpid()))
        _remove_gauges_of_predecessor(Path(named))
    elif server is not None:
        _prepare_own(environ, _identity(server))


def files(directory: Path) -> Iterator[MetricFile]:
    """The files of processes in a directory; whatever else is in it is not ours to read or to remove."""
    for path in directory.iterdir():
        match = _FILE_NAME.fullmatch(path.name)
        if match:
            yield MetricFile(path, match[1], int(match[2]))


def has_living_owner(file: MetricFile) -> bool:
    """Whether the process that writes to a file runs still, and not just another one with its number."""
    # It may have taken the file over from an earlier process of that number; and clocks are put right.
    return _is_of_living_process(file) or _has_open(file.pid, file.path)


def _server_pid() -> int | None:
    """The process that all workers have in common; None where this one serves alone."""
    if "gunicorn.arbiter" in sys.modules:
        return os.getppid()
    parent = multiprocessing.parent_process()
    return parent.pid if parent else None


def _is_too_late() -> bool:
    values = sys.modules.get("prometheus_client.values")
    return values is not None and values.ValueClass is values.MutexValue


def _prepare_named(named: str, run: str | None) -> None:
    if not named:
        raise SettingsError(f"{VARIABLE} is set but empty: name a directory, or unset it")
    directory = Path(named)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(0, "not writable")
        if run:
            _join_run(directory, run)
    except OSError as error:
        raise SettingsError(
            f"{VARIABLE}: cannot use {directory}: {error.strerror}; name a directory that the application may"
            " write to"
        ) from error


def _join_run(directory: Path, run: str) -> None:
    """Enter this run into the list of those that use the directory; clean up if no other one does."""
    with _locked(directory / _MEMBERS) as members:
        living = [each for each in members.read_text().split() if _is_alive(each)]
        if not living:
            for file in files(directory):
                # Metrics that the application made at its import are older than this call.
                if not _is_of_living_process(file):
                    file.path.unlink(missing_ok=True)
            for each in directory.glob(f"{GENERATION}*"):
                shutil.rmtree(each)
        if run not in living:
            members.write_text("\n".join([*living, run]))


def _prepare_own(environ: MutableMapping[str, str], run: str | None) -> None:
    root = Path(tempfile.gettempdir()) / f"otel-analytics-metrics-{os.geteuid()}"
    try:
        if not run:
            raise ProcessLookupError(0, "the server process cannot be seen")
        root.mkdir(mode=0o700, exist_ok=True)
        _check_private(root)
        with _locked(root / "lock"):
            for each in root.iterdir():
                if each.is_dir() and not _is_in_use(each):
                    shutil.rmtree(each)
            (root / run).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        _log.warning(
            "otel-analytics: metrics are those of one process, as %s cannot be used: %s; if several serve"
            " requests, set %s",
            root,
            error.strerror,
            VARIABLE,
        )
    else:
        environ[VARIABLE] = str(root / run)
        _remove_gauges_of_predecessor(root / run)


def _remove_gauges_of_predecessor(directory: Path) -> None:
    """Do not begin with what a dead process of the same number had in progress.

    Its counters may be taken over: going on from there is as right as counting beside them.
    """
    pid = os.getpid()
    for file in files(directory):
        if file.pid == pid and file.ends_with_its_process and not _has_open(pid, file.path):
            file.path.unlink(missing_ok=True)


def _check_private(directory: Path) -> None:
    # The name can be guessed, and the folder for temporary files is everybody's.
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(0, "not a private directory of this user")


def _is_in_use(directory: Path) -> bool:
    """Whether the run that a directory is named for goes on, if only in workers that lost their server."""
    return _is_alive(directory.name) or any(map(_is_of_living_process, files(directory)))


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def _is_of_living_process(file: MetricFile) -> bool:
    """Whether a process of that number runs, and has since before the file was last written to."""
    ticks = _start_ticks(file.pid)
    if ticks is None:
        return not _HAS_PROC and _is_running(file.pid)
    process_age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    try:
        return time.time() - file.path.stat().st_mtime <= process_age + _SLACK_SECONDS
    except FileNotFoundError:
        return False


def _has_open(pid: int, path: Path) -> bool:
    try:
        wanted = path.stat()
        return any(_is_same(each, wanted) for each in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False
    except PermissionError:
        # A worker that began as root and changed its user hides it from its like.
        return True


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except FileNotFoundError:  # closed meanwhile
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_alive(identity: str) -> bool:
    pid = identity.partition("-")[0]
    return pid.isdecimal() and _identity(int(pid)) == identity


def _identity(pid: int) -> str | None:
    """What tells a process from all others, also those of other times; None where it does not run."""
    ticks = _start_ticks(pid)
    return None if ticks is None else f"{pid}-{ticks}-{_boot_id()}"


def _start_ticks(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where it does not run."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name of the program comes before, in parentheses, and may hold anything.
    fields = content.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""  # some sandboxes have none
