"""An application with the two lines, under the servers that people run."""

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
import pytest
from backend import PREFIX, raw_redis
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from otel_analytics import instrument
from otel_analytics.record import parse_event
from otel_analytics.stream.connection import REPLY_TIMEOUT_SECONDS

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
OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

provider = TracerProvider(sampler=ALWAYS_OFF)
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=open("spans", "w"))))
trace.set_tracer_provider(provider)
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
LONG = "30"
"""Seconds an event waits for company: only the flush at the end can have delivered it."""


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


@pytest.mark.parametrize(
    ("command", "workers"),
    [
        pytest.param(UVICORN, 1, id="uvicorn"),
        pytest.param((*UVICORN, "--workers=2"), 2, id="uvicorn-workers"),
        pytest.param((*GUNICORN, "--workers=2"), 2, id="gunicorn"),
        pytest.param((*GUNICORN, "--workers=2", "--preload"), 2, id="gunicorn-preload"),
    ],
)
def test_every_request_is_one_event_when_the_server_was_told_to_stop(tmp_path, redis_url, command, workers):
    environ = {
        "OTEL_ANALYTICS_REDIS_URL": redis_url,
        "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG,
    }
    service = Service(tmp_path, command, environ)
    with contextlib.ExitStack() as under_way, service.running():
        asked = service.ask_all(workers)
        assert service.counted() == asked
        assert events(redis_url) == []
        under_way.enter_context(service.asking_slowly())
    assert are_those_of(events(redis_url), asked + 1)


def test_an_application_with_a_provider_of_its_own_and_settings_in_a_file(tmp_path, redis_url):
    (tmp_path / "otel-analytics.toml").write_text(
        f'redis_url = "{redis_url}"\nexport_interval_seconds = {LONG}\nkey_prefix = "shop"\n'
    )
    service = Service(tmp_path, UVICORN, {}, before=OWN_PROVIDER)
    with service.running():
        service.ask()
    assert are_those_of(events(redis_url, "shop"), REQUESTS)
    assert (tmp_path / "spans").read_text() == ""  # its sampler takes none


def test_both_lives_of_an_application_that_is_reloaded_are_recorded(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG}
    service = Service(tmp_path, (*UVICORN, "--reload"), environ)
    asked = REQUESTS
    with service.running():
        assert {answer["version"] for answer in service.ask()} == {1}
        service.write(version=2)
        version = 1
        while version == 1:
            (answer,) = service.ask(1)
            asked += 1
            version = answer["version"]
            time.sleep(0.1)
        assert {answer["version"] for answer in service.ask()} == {2}
    assert are_those_of(events(redis_url), asked + REQUESTS)


def test_requests_do_not_wait_for_a_redis_that_hangs(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": "0.01"}
    service = Service(tmp_path, UVICORN, environ)
    with service.running():
        service.ask()
        with raw_redis(redis_url) as client:
            pid = client.info()["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            service.ask()
            assert time.monotonic() - began < REPLY_TIMEOUT_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)
    assert are_those_of(events(redis_url), 2 * REQUESTS)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        pytest.param((*UVICORN, "--lifespan=off"), signal.SIGINT, id="uvicorn"),
        pytest.param((*GUNICORN, "--asgi-lifespan=off"), signal.SIGTERM, id="gunicorn"),
    ],
)
def test_without_a_lifespan_a_normal_exit_delivers_the_rest(tmp_path, redis_url, command, end):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG}
    service = Service(tmp_path, command, environ)
    with service.running(end):
        service.ask()
    assert are_those_of(events(redis_url), REQUESTS)


def test_without_a_lifespan_a_killed_server_loses_no_more_than_the_last_interval(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": "0.2"}
    service = Service(tmp_path, (*UVICORN, "--lifespan=off"), environ)
    with service.running():
        service.ask()
        time.sleep(1)
    assert are_those_of(events(redis_url), REQUESTS)


def test_an_application_may_be_served_again_in_the_same_process(redis_url):
    app = FastAPI()
    instrument(app, redis_url=redis_url, export_interval_seconds=30.0, registry=CollectorRegistry())

    async def serve():
        for life in (1, 2, 3):
            async with served(app) as client:
                await client.get(f"/lives/{life}")
            assert [event.route_full for event in events(redis_url)] == [
                f"/lives/{each}" for each in range(1, life + 1)
            ]

    asyncio.run(serve())


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path, redis_url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otel-analytics.toml").write_text(
        'redis_url = "redis://127.0.0.1:1/0"\nkey_prefix = "file"\nexcluded_paths = ["/health"]\n'
    )
    monkeypatch.setenv("OTEL_ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("OTEL_ANALYTICS_KEY_PREFIX", "environment")
    app = FastAPI()
    instrument(app, key_prefix="argument", registry=CollectorRegistry())

    async def serve():
        async with served(app) as client:
            await client.get("/health")
            await client.get("/somewhere")

    asyncio.run(serve())
    assert [event.route_full for event in events(redis_url, "argument")] == ["/somewhere"]


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
