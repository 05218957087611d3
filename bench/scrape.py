"""What a scrape of a large application costs: bytes, CPU, and how long other requests wait meanwhile.

Run: python bench/scrape.py

An application of 500 routes that have answered with two statuses, on one uvicorn process and then on several.
A client asks for a small route all the time, on a connection that stays open, while another one scrapes as
Prometheus does, once without a pause.
"""

import gzip
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.responses import PlainTextResponse

from otel_analytics import instrument

ROUTES: Final = 500
PROCESSES: Final = 4
SCRAPES: Final = 10
SECONDS: Final = 5.0
ACCEPT: Final = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
"""As Prometheus 2.42 says it."""


def create_app() -> FastAPI:
    """The application that is scraped: every span is sampled, so that series have exemplars."""
    trace.set_tracer_provider(TracerProvider())
    app = FastAPI(openapi_url=None)

    async def answer(status: int = 200) -> PlainTextResponse:
        return PlainTextResponse("x" * 500, status)

    for number in range(ROUTES):
        app.add_api_route(f"/api/v1/things-{number}/{{thing_id}}/parts", answer)
    # Nobody is there to take events: they wait, and are dropped, which costs next to nothing.
    instrument(app, redis_url="redis://127.0.0.1:1/0", metrics_max_routes=ROUTES, buffer_size=1)
    return app


@contextmanager
def serving(processes: int, folder: str) -> Iterator[tuple[int, int]]:
    """Run the application; gives its port and the process to signal."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "scrape:create_app", "--factory", "--port", str(port)]
    options = ["--log-level=error", "--no-access-log", f"--workers={processes}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TMPDIR": folder}
    process = subprocess.Popen([*command, *options], env=environ)  # noqa: S603 - ours
    try:
        for _ in range(300):
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    break
            except OSError:
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def warm_up(port: int, processes: int) -> None:
    """Ask for every route on connections of their own, until each process has surely answered most."""

    def ask_all(_: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for number in range(ROUTES):
            for status in (200, 404):
                ask(connection, f"/api/v1/things-{number}/7/parts?status={status}")
        connection.close()

    with ThreadPoolExecutor(2 * processes) as threads:
        list(threads.map(ask_all, range(3 * processes if processes > 1 else 1)))


def ask(connection: HTTPConnection, target: str) -> None:
    """Ask and read the answer."""
    connection.request("GET", target)
    # Else the kernel says only after 40 ms that the head has come, and the server waits with the body.
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    connection.getresponse().read()


def scrape(port: int, encoding: str = "gzip") -> tuple[bytes, float]:
    """The page as it came, and how long it took in seconds."""
    connection = HTTPConnection("127.0.0.1", port)
    begin = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": encoding})
    body = connection.getresponse().read()
    taken = time.perf_counter() - begin
    connection.close()
    return body, taken


def cpu_seconds(parent: int) -> float:
    """CPU time so far of the process and its children."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(path.parent.name) == parent or int(fields[1]) == parent:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def waits(port: int, *, scraping: bool) -> list[float]:
    """Milliseconds that requests for a small route took, slowest last, for some seconds."""
    over = threading.Event()

    def scrape_on() -> None:
        while not over.is_set():
            scrape(port)

    thread = threading.Thread(target=scrape_on)
    if scraping:
        thread.start()
    connection = HTTPConnection("127.0.0.1", port)
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while (begin := time.perf_counter()) < end:
        ask(connection, "/api/v1/things-1/7/parts")
        found.append((time.perf_counter() - begin) * 1e3)
        time.sleep(0.002)
    over.set()
    if scraping:
        thread.join()
    connection.close()
    return sorted(found)


def measure(processes: int) -> None:
    """One line for the page, two for those who wait."""
    with tempfile.TemporaryDirectory() as folder, serving(processes, folder) as (port, parent):
        warm_up(port, processes)
        plain, _ = scrape(port, "identity")
        before = cpu_seconds(parent)
        taken = [scrape(port) for _ in range(SCRAPES)]
        cpu_ms = (cpu_seconds(parent) - before) * 1e3 / SCRAPES
        size = len(taken[-1][0])
        if gzip.decompress(taken[-1][0])[-6:] != b"# EOF\n":
            raise SystemExit("the page is not complete")
        samples = sum(not line.startswith(b"#") for line in plain.splitlines())
        print(
            f"{processes} process(es): {samples:,} series, {len(plain) / 1e6:.2f} MB,"
            f" {size / 1e3:.0f} kB as sent,"
            f" {statistics.median(t for _, t in taken) * 1e3:.0f} ms, CPU {cpu_ms:.0f} ms a scrape"
        )
        for scraping in (False, True):
            found = waits(port, scraping=scraping)
            print(
                f"   {'one scrape after the other' if scraping else 'no scrape':27} {len(found):5} requests:"
                f" median {statistics.median(found):.1f} ms,"
                f" 99 % within {found[len(found) * 99 // 100]:.1f} ms, longest {found[-1]:.1f} ms"
            )


def main() -> None:
    """Measure and print."""
    print(f"{ROUTES} routes; {os.uname().sysname} {os.uname().machine}, {os.cpu_count()} cores")
    for processes in (1, PROCESSES):
        measure(processes)


if __name__ == "__main__":
    main()
