"""The life of a server process: found, started, waited for, stopped."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_analytics.errors import OtelAnalyticsError

HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01
_WATCH: Final = 'read -r _; kill -INT "$1"'


class Account(NamedTuple):
    """A user of the machine to run as."""

    uid: int
    gid: int


def run_as(account: Account | None) -> dict[str, Any]:
    """What `subprocess` wants to know to run a program as that user; as ourselves where None.

    The working directory is one that every user can reach, and variables that libpq and its server read are
    taken out.
    """
    options: dict[str, Any] = {
        "cwd": "/",
        "env": {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        | {"LC_ALL": "C"},
    }
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def package_directory(package: str) -> Path | None:
    """Where a package is installed; it is not imported."""
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


def first_usable(
    programs: Iterable[Path], oldest: tuple[int, int], account: Account | None = None
) -> Path | None:
    """The first program that runs here and is not too old.

    Args:
        programs: Paths; those that do not exist are passed over.
        oldest: The first version that will do.
        account: Who has to be able to run it.
    """
    return next((each for each in programs if _version(each, account) >= oldest), None)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    is_ready: Callable[[int], bool],
    account: Account | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[None]:
    """Run a server that a SIGINT shuts down.

    When the block ends, however it ends, the server has been shut down. Should this process be killed, so
    that no block can end, the server is shut down as well.

    Args:
        command: The program and its arguments; it must stay in the foreground.
        log: File for what it prints, written anew.
        is_ready: Told the pid, says whether the server under that pid answers.
        account: Who runs it.
        descriptors: Open files that the server is to inherit.

    Raises:
        OtelAnalyticsError: It does not start.
    """
    name = Path(command[0]).name
    with log.open("wb") as output:
        try:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches this process alone, which still needs the server to end well.
                start_new_session=True,
                pass_fds=descriptors,
                **run_as(account),
            )
        except OSError as error:
            raise OtelAnalyticsError(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        with _shut_down_after_us(server.pid):
            deadline = time.monotonic() + _START_SECONDS
            while not is_ready(server.pid):
                if server.poll() is not None:
                    raise OtelAnalyticsError(f"{name} did not start: {_reason(log)} (its log is {log})")
                if time.monotonic() > deadline:
                    raise OtelAnalyticsError(
                        f"{name} was not ready after {_START_SECONDS:.0f} s (its log is {log})"
                    )
                time.sleep(_POLL_SECONDS)
            yield
    finally:
        _stop(server)


@contextmanager
def _shut_down_after_us(pid: int) -> Iterator[None]:
    # The pipe closes when this process dies, whatever it dies of.
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    with watcher:
        try:
            yield
        finally:
            watcher.kill()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _version(program: Path, account: Account | None) -> tuple[int, int]:
    """Its version, or zeros where it does not run."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, **run_as(account)
        )
    except OSError:
        return (0, 0)
    found = re.search(r"(\d+)(?:\.(\d+))?", done.stdout)
    return (int(found[1]), int(found[2] or 0)) if found and not done.returncode else (0, 0)


def _reason(log: Path) -> str:
    """The line of a log that says best why the server ended."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL" in line]
    return (fatal or lines or ["it said nothing"])[-1]
