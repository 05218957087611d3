"""Applications that are told to stop, killed, forked, and left without Redis."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from backend import raw_postgres
from service import GUNICORN, UVICORN, Service, are_those_of, events

LONG = "30"
"""Seconds an event waits for company: only a flush can have delivered it."""


OVERLAP = 100
"""Answers by which one of the threads that ask may be behind the others."""


class Asking:
    """Requests from several threads until the server is gone; knows which were answered, in that order."""

    def __init__(self, service):
        self.answered = {}
        self._service = service
        self._stop = threading.Event()
        self._number = iter(range(10**9))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        for each in self._threads:
            each.start()

    def stop(self):
        self._stop.set()
        for each in self._threads:
            each.join()

    def _run(self):
        while not self._stop.is_set():
            with self._lock:
                path = f"/items/{next(self._number)}"
            try:
                answered = _is_answered(self._service.socket, path)
            except OSError:  # the server is going, or gone
                time.sleep(0.02)
            else:
                if answered:
                    self.answered[path] = len(self.answered)


def _is_answered(address, path):
    """Ask on a connection of its own, so that any worker may take it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(address))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}")


def asked_until(here, folder, command, end, **settings):
    """Ask a served application for two seconds, until the signal ends it, and have the rest stored.

    Returns:
        Who asked, the paths that are stored, and what became of the events.
    """
    folder.mkdir()
    environ = {f"OTEL_ANALYTICS_{name.upper()}": str(value) for name, value in settings.items()}
    service = Service(folder, command, {"OTEL_ANALYTICS_REDIS_URL": here.redis.url, **environ})
    with service.running(end):
        asking = Asking(service)
        time.sleep(2)
    asking.stop()
    here.worker()
    outcome = here.outcome()
    with raw_postgres(here.postgres.url) as connection:
        rows = connection.execute(
            "SELECT route_full FROM route_analytics WHERE route = '/items/{number}'"
        ).fetchall()
    stored = {path for (path,) in rows}
    assert len(stored) == len(rows)
    return asking, stored, outcome


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param(UVICORN, "uvicorn", id="uvicorn"),
        pytest.param((*UVICORN, "--workers=2"), "uvicorn with 2 workers", id="uvicorn-workers"),
        pytest.param((*GUNICORN, "--workers=2", "--preload"), "gunicorn --preload", id="gunicorn-preload"),
    ],
)
def test_told_to_stop_under_load(scene, tell, tmp_path, command, name):
    with scene() as here:
        asking, stored, outcome = asked_until(
            here, tmp_path / "app", command, signal.SIGTERM, export_interval_seconds=LONG
        )
    # A request may have been served though its answer no longer arrived.
    assert asking.answered.keys() <= stored
    assert len(asking.answered) > 50
    tell(31, f"app: {name}, SIGTERM under load", outcome, accepted=len(asking.answered), lost=0)


def test_killed_under_load(scene, tell, tmp_path):
    buffer_size = 2_000
    with scene() as here:
        asking, stored, outcome = asked_until(
            here,
            tmp_path / "app",
            UVICORN,
            signal.SIGKILL,
            export_interval_seconds=0.2,
            buffer_size=buffer_size,
        )
    lost = asking.answered.keys() - stored
    assert len(lost) <= buffer_size, "more than the buffer"
    # Nothing is lost that was answered before what is stored.
    last_stored = max(asking.answered[path] for path in stored & asking.answered.keys())
    assert min((asking.answered[path] for path in lost), default=last_stored) > last_stored - OVERLAP
    tell(32, "app: kill -9 under load", outcome, accepted=len(asking.answered), lost=len(lost))


FORKS = """
    import asyncio, os, sys
    import httpx
    from fastapi import FastAPI
    from otel_analytics import instrument

    app = FastAPI()
    instrument(app, redis_url=sys.argv[1], export_interval_seconds=0.5)

    @app.get("/items/{number}")
    async def item(number: int):
        return number

    async def ask(first, count):
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
                for number in range(first, first + count):
                    await client.get(f"/items/{number}")
                    if number == first + count // 2 and first == 0:
                        for child in (1, 2):
                            if os.fork() == 0:
                                return child
        return 0

    child = asyncio.run(ask(0, 100))
    if child:
        # What the parent had in its buffer is the parent's; the child has a loop and requests of its own.
        asyncio.run(ask(child * 1_000, 100))
        sys.exit()
    for _ in (1, 2):
        os.wait()
"""


def test_forked_with_events_in_hand(redis_url, tell):
    subprocess.run([sys.executable, "-c", textwrap.dedent(FORKS), redis_url], check=True, timeout=60)
    found = events(redis_url)
    assert len({event.event_id for event in found}) == len(found)
    numbers = sorted(int(event.route_full.rpartition("/")[2]) for event in found)
    assert numbers == [*range(100), *range(1_000, 1_100), *range(2_000, 2_100)]
    tell(33, "app: forked with events in hand", accepted=300, stored=len(found), lost=0, duplicates=0)


HANGS = "import time; time.sleep(3_600)"
RAISES = [
    "raise RuntimeError('boom')",
    "raise MemoryError",
    "raise SystemExit(3)",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "raise type('Odd', (BaseException,), {'__str__': lambda self: 1 / 0})()",
]


@pytest.mark.parametrize("does", [HANGS, *RAISES])
def test_an_exporter_that_hangs_or_raises_anything(tmp_path, redis_url, tell, does):
    before = textwrap.dedent(f"""
        from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

        original, calls = RedisStreamSpanExporter.send, []
        def send(self, events, dropped):
            calls.append(1)
            if len(calls) <= 2:
                {does}
            return original(self, events, dropped)
        RedisStreamSpanExporter.send = send
    """)
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": "0.05"}
    environ |= {"OTEL_ANALYTICS_FLUSH_TIMEOUT_SECONDS": "1"}
    service = Service(tmp_path, UVICORN, environ, before=before)
    with service.running():
        service.ask()
        time.sleep(0.2)
        began = time.monotonic()
        service.ask()
        slow = time.monotonic() - began
        began = time.monotonic()
    stopping = time.monotonic() - began
    assert slow < 2, "requests waited for the exporter"
    assert stopping < 4, "the application could not stop"
    if does != HANGS:
        assert are_those_of(events(redis_url), 80)
    what = "hangs" if does == HANGS else does.partition("(")[0].replace("raise ", "raises ")
    what = what.replace("raises type", "raises what cannot be shown")
    tell(34, f"app: exporter {what}", accepted=80, stored=len(events(redis_url)), lost=0)


MEMORY = """
    import asyncio, resource, sys
    from fastapi import FastAPI
    from otel_analytics import instrument

    app = FastAPI()
    instrument(app, redis_url="redis://127.0.0.1:1/0")

    @app.get("/items/{number}")
    async def item(number: int):
        return number

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    async def ask(numbers):
        for number in numbers:
            path = f"/items/{number}"
            await app({"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
                "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "headers": [],
                "query_string": f"q={number}".encode(), "client": ("127.0.0.1", 1), "server": ("app", 80)},
                receive, send)

    async def main():
        count = int(sys.argv[1])
        async with app.router.lifespan_context(app):
            await ask(range(count // 4))  # the buffer is full
            before = resident()
            await ask(range(count // 4, count))
            print(before, resident())

    asyncio.run(main())
"""


def test_memory_with_redis_away(tell, long):
    requests = 1_000_000 if long else 60_000
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), str(requests)],
        env=os.environ | {"OTEL_ANALYTICS_FLUSH_TIMEOUT_SECONDS": "0.1"},
        check=True,
        capture_output=True,
        text=True,
        timeout=900,
    )
    before, after = map(int, done.stdout.split())
    grown = (after - before) / 2**20
    assert grown < 8, f"{grown:.1f} MiB more after the buffer was full"
    name = f"app: {requests:,} requests, Redis away: {grown:+.1f} MiB once full"
    tell(35, name, accepted=0, dropped=requests)
