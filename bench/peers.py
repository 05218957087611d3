"""Processes of the subjects, and the servers that they need."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final, NamedTuple

from subjects import SUBJECTS

from otel_analytics.embedded import redis_server

HERE: Final = Path(__file__).parent
POSTING: Final = {"Apitally": "/v1/traces", "api-analytics": "/api/log-request"}
"""Subjects that send what they know to a server of their makers, and where to."""


class Surroundings(NamedTuple):
    """What subjects are given.

    Attributes:
        redis_url: Of a Redis of their own.
        sink: URL of a server that takes whatever is sent.
        posts: How often something was sent there, by path.
    """

    redis_url: str
    sink: str
    posts: Counter[str]


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """Run the servers."""
    posts: Counter[str] = Counter()

    class Sink(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            posts[self.path] += 1
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with TemporaryDirectory(prefix="otel-analytics-") as folder, redis_server(Path(folder)) as redis_url:
        yield Surroundings(redis_url, f"http://127.0.0.1:{server.server_port}", posts)
    server.shutdown()
    server.server_close()


class Subject:
    """A process with one subject."""

    def __init__(
        self, name: str, routes: int, around: Surroundings, port: int | None = None, rows: int = 0
    ) -> None:
        """Start it.

        Args:
            name: One of `SUBJECTS`.
            routes: Of its application.
            around: Its servers.
            port: Where it serves HTTP; None for requests in process.
            rows: What a handler over HTTP has to write as JSON.
        """
        self.name = name
        http = [] if port is None else [str(port), str(rows)]
        arguments = [name, str(routes), around.redis_url, around.sink, *http]
        self.process = subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "subjects.py", *arguments],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def input(self) -> IO[str]:
        """Where it is told what to do."""
        assert self.process.stdin is not None
        return self.process.stdin

    def answer(self) -> str:
        """The next line it says; empty where it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate()


def installed() -> list[str]:
    """Subjects whose packages are there; the others are named on standard error."""
    packages = {
        "FastAPIInstrumentor": "opentelemetry.instrumentation.fastapi",
        "prometheus-fastapi-instrumentator": "prometheus_fastapi_instrumentator",
        "starlette_exporter": "starlette_exporter",
        "Apitally": "apitally",
        "api-analytics": "api_analytics",
    }
    missing = [name for name, package in packages.items() if not _is_there(package)]
    if missing:
        print(f"Left out, as bench/requirements.txt is not installed: {', '.join(missing)}", file=sys.stderr)
    return [name for name in SUBJECTS if name not in missing]


def _is_there(package: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415

    return find_spec(package) is not None
