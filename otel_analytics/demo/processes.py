"""Processes that run beside the demo."""

import contextlib
import http.client
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from otel_analytics.errors import OtelAnalyticsError

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


def start(
    stack: contextlib.ExitStack,
    command: Sequence[str],
    environment: dict[str, str],
    *,
    log: Path,
    address: str,
) -> Callable[[], None]:
    """Run a process until the stack unwinds; returns when its address answers.

    Args:
        stack: What it belongs to.
        command: The program and its arguments.
        environment: Its variables, all of them.
        log: Where its output goes.
        address: Answers 200 once it serves.

    Returns:
        What raises `OtelAnalyticsError` once the process has ended. Asked later, as that which answers may be
        another program that took the port first.

    Raises:
        OtelAnalyticsError: It does not start; with the last line of its output.
    """
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C reaches the demo, which then stops it in order.
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    stack.callback(_stop, process)
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise OtelAnalyticsError(f"{' '.join(command)} does not start: {_last_line(log)}")
        time.sleep(0.1)

    def ensure_running() -> None:
        if process.poll() is not None:
            raise OtelAnalyticsError(f"{' '.join(command)} has ended: {_last_line(log)}")

    return ensure_running


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)  # noqa: PLR2004
    except (OSError, http.client.HTTPException):
        return False
