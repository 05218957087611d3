"""What a request costs more with each peer in the application, in process. Run it with `make bench`.

Arguments: numbers of routes, 10 100 500 1000 where none are given. One process for each peer; the rounds are interleaved,
and each ratio is the median of the ratios within a round.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from subjects import SUBJECTS

from otel_analytics.embedded import redis_server

ROUNDS: Final = 7
REQUESTS: Final = 2_000
HERE: Final = Path(__file__).parent
OURS: Final = "otel-analytics"


class Sink(BaseHTTPRequestHandler):
    """Takes whatever peers send, and says yes."""

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Say nothing."""


class Subject:
    """A process that asks its application when told to."""

    def __init__(self, name: str, routes: int, redis_url: str, sink: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "subjects.py", name, str(routes), redis_url, sink],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None and self._process.stdin is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def wait(self) -> bool:
        """Whether it has come up."""
        return self._output.readline() == "ready\n"

    def round(self, requests: int) -> float:
        """Processor microseconds a request took, in every thread."""
        self._input.write(f"{requests}\n")
        self._input.flush()
        return float(json.loads(self._output.readline())["processor"])

    def stop(self) -> None:
        self._input.close()
        self._process.wait(30)


def measure(routes: int, redis_url: str, sink: str) -> dict[str, list[float]]:
    """Rounds of every subject that could be started."""
    with ExitStack() as stack:
        subjects = []
        for name in SUBJECTS:
            subject = Subject(name, routes, redis_url, sink)
            stack.callback(subject.stop)
            if subject.wait():
                subjects.append(subject)
        rounds: dict[str, list[float]] = {each.name: [] for each in subjects}
        for _ in range(ROUNDS):
            for each in subjects:
                rounds[each.name].append(each.round(REQUESTS))
        return rounds


def main() -> None:
    """Print all of it."""
    counts = [int(each) for each in sys.argv[1:]] or [10, 100, 500, 1_000]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = f"http://127.0.0.1:{server.server_port}"
    with (
        tempfile.TemporaryDirectory(prefix="otel-analytics-") as folder,
        redis_server(Path(folder)) as redis_url,
    ):
        for routes in counts:
            show(routes, measure(routes, redis_url, sink))
    server.shutdown()


def show(routes: int, rounds: dict[str, list[float]]) -> None:
    """Print a table."""
    print(f"{routes} routes")
    for name, values in rounds.items():
        over_bare = [value - bare for value, bare in zip(values, rounds["bare"], strict=True)]
        share = [
            (ours - bare) / (value - bare) if value > bare else float("nan")
            for ours, value, bare in zip(rounds[OURS], values, rounds["bare"], strict=True)
        ]
        print(
            f"  {name:<36} {statistics.median(values):8.1f} us a request"
            f" {statistics.median(over_bare):+8.1f} over bare"
            f"   ours is {statistics.median(share):5.2f} x" if name != "bare" else f"  {name:<36} {statistics.median(values):8.1f} us a request"
        )


if __name__ == "__main__":
    main()
