"""A small application with the two lines in it, under the servers that people run."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from backend import PREFIX, raw_redis
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from otel_analytics.record import parse_event

APP = """
import asyncio, os, random

from fastapi import FastAPI

from otel_analytics import instrument

random.seed(42)
{before}
app = FastAPI()
instrument(app)


@app.get("/items/{{number}}")
async def item(number: int, wait: float = 0):
    random.seed(42)
    await asyncio.sleep(wait)
    return {{"pid": os.getpid(), "version": {version}}}
"""
UVICORN = ("uvicorn", "--uds={socket}", "--log-level=warning", "served:app")
GUNICORN = (
    "gunicorn",
    "--bind=unix:{socket}",
    "--worker-class=asgi",
    "--no-control-socket",
    "--graceful-timeout=2",
    "--log-level=warning",
    "served:app",
)
REQUESTS = 40


class Service:
    """A server in a folder of its own."""

    def __init__(self, folder, command, environ, **app):
        self.folder = folder
        self.socket = folder / "socket"
        self.write(**app)
        self._numbers = itertools.count()
        self._command = [sys.executable, "-m", *(part.format(socket=self.socket) for part in command)]
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(folder),
            # Python takes a file written twice in a second, of the same size, for the one it has compiled.
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder),
            **environ,
        }

    def write(self, *, version=1, before=""):
        (self.folder / "served.py").write_text(APP.format(version=version, before=before))

    @contextlib.contextmanager
    def running(self, end=signal.SIGTERM):
        """Run it; when the block ends, it has ended by the signal."""
        process = subprocess.Popen(self._command, cwd=self.folder, env=self._environ)
        try:
            until(self._answers)
            yield
            process.send_signal(end)
            process.wait(20)
        finally:
            process.kill()
            process.wait()

    def get(self, path):
        # A connection of its own each time, so that any worker may take it; without certificates, as loading
        # them takes longer than all the rest.
        transport = httpx.HTTPTransport(uds=str(self.socket), verify=False)
        with httpx.Client(transport=transport, base_url="http://service", timeout=10) as client:
            return client.get(path).raise_for_status().text

    def ask(self, times=REQUESTS):
        """So many requests, each for an item of its own; what was answered."""
        paths = [f"/items/{next(self._numbers)}" for _ in range(times)]
        with ThreadPoolExecutor(4) as threads:
            return [json.loads(answer) for answer in threads.map(self.get, paths)]

    @contextlib.contextmanager
    def asking_slowly(self):
        """One more request, which is answered half a second from now."""
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(self.get, f"/items/{next(self._numbers)}?wait=0.5")
            time.sleep(0.2)  # until it has come in
            yield
            answer.result()

    def ask_all(self, workers):
        """Ask until every worker has answered; returns how often."""
        pids, asked = set(), 0
        while len(pids) < workers:
            assert asked < 1_000
            pids |= {answer["pid"] for answer in self.ask()}
            asked += REQUESTS
        return asked

    def counted(self):
        """Requests for items that /metrics knows of."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.name == "http_server_request_duration_seconds_count"
            and sample.labels["http_route"] == "/items/{number}"
        )

    def _answers(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return bool(self.get("/metrics"))
        return False


def events(redis_url, prefix=PREFIX):
    with raw_redis(redis_url) as client:
        entries = client.xrange(f"{prefix}:stream")
    return [parse_event(item) for _, entry in entries for item in json.loads(entry[b"events"])]


def are_those_of(found, requests):
    """Every request once, under an id of its own."""
    assert len({event.event_id for event in found}) == len(found)
    paths = [event.route_full.partition("?")[0] for event in found]
    assert sorted(paths) == sorted(f"/items/{n}" for n in range(requests))
    assert {event.route for event in found} == {"/items/{number}"}
    return True


@contextlib.asynccontextmanager
async def served(app):
    """One life of an application, as a server sees to it; gives a client."""
    to_app, from_app = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        yield client
    await to_app.put({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await life
