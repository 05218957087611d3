"""Real servers with two worker processes each, asked over HTTP."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

APP = """
import asyncio, contextlib, os

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otel_analytics.live.directory import prepare
from otel_analytics.record import Event

live = pipeline = orders = None
if "METRICS_AT_IMPORT" in os.environ:
    from prometheus_client import Counter

    orders = Counter("orders", "A metric of the application's own, made at its import.")
    orders.inc(0)


@contextlib.asynccontextmanager
async def lifespan(app):
    global live, pipeline
    prepare(os.environ)
    from prometheus_client import REGISTRY
    from otel_analytics.live.metrics import LiveMetrics, PipelineMetrics

    live, pipeline = LiveMetrics(REGISTRY, max_routes=10), PipelineMetrics(REGISTRY)
    pipeline.buffered(3)
    yield


async def hit(request):
    live.request_started(request, "GET")
    await asyncio.sleep(0.01)
    live.observe(Event("0" * 32, 1, "/hit", "/hit", "GET", 200, 60.0, db_query_count=2, cache_status="miss"))
    pipeline.accepted(1)
    if orders:
        orders.inc()
    live.request_ended(request, "GET")
    live.count_active()
    return PlainTextResponse(str(os.getpid()))


async def hang(request):
    live.request_started(request, "GET")
    live.count_active()

    async def body():
        yield str(os.getpid())
        await asyncio.sleep(60)

    from starlette.responses import StreamingResponse
    return StreamingResponse(body())


async def metrics(request):
    from prometheus_client import REGISTRY
    from otel_analytics.live.metrics import exposition

    body, content_type = exposition(REGISTRY, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


app = Starlette(
    routes=[Route("/hit", hit), Route("/hang", hang), Route("/metrics", metrics)], lifespan=lifespan
)
"""

UVICORN = ("uvicorn", "--uds={socket}", "--workers=2", "--log-level=warning", "served:app")
GUNICORN = (
    "gunicorn",
    "--bind=unix:{socket}",
    "--workers=2",
    "--worker-class=asgi",
    "--no-control-socket",
    "--graceful-timeout=1",
    "--log-level=warning",
    "served:app",
)
HITS = 40
KILLS = 6


class Service:
    """A server of two workers in a folder of its own; may be started more than once."""

    def __init__(self, folder, command, environ):
        (folder / "served.py").write_text(APP)
        self.socket = folder / "socket"
        self._folder = folder
        self.command = [sys.executable, "-m", *(part.format(socket=self.socket) for part in command)]
        self.environ = {**os.environ, "PYTHONPATH": str(folder), **environ}

    @contextlib.contextmanager
    def running(self):
        self.socket.unlink(missing_ok=True)
        process = subprocess.Popen(self.command, cwd=self._folder, env=self.environ)
        try:
            until(self._answers)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()
                process.wait()

    def get(self, path):
        # A connection of its own each time, so that any worker may take it.
        with self.client() as client:
            return client.get(path).raise_for_status().text

    def client(self):
        return httpx.Client(
            transport=httpx.HTTPTransport(
                uds=str(self.socket), verify=False
            ),  # reading certificates takes long
            base_url="http://service",
            timeout=10,
        )

    def hit(self, times):
        """Hit it and return which processes answered."""
        with ThreadPoolExecutor(4) as threads:
            return {int(pid) for pid in threads.map(lambda _: self.get("/hit"), range(times))}

    def hit_until(self, enough):
        """Hit it in rounds; returns how often, and which processes answered."""
        hits, pids = 0, set()
        deadline = time.monotonic() + 20
        while not enough(pids):
            assert time.monotonic() < deadline, pids
            pids |= self.hit(HITS)
            hits += HITS
        return hits, pids

    def scrape(self):
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
        }

    def _answers(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return self.get("/metrics")
        return False


def shows(scrape, hits):
    """Whether every metric says that there were so many hits, and nothing else goes on."""
    expected = {
        ("http_server_request_duration_seconds_count", "/hit", "200", "GET"): hits,
        ("http_server_request_duration_seconds_bucket", "/hit", "0.05", "200", "GET"): 0,
        ("http_server_request_duration_seconds_bucket", "/hit", "0.075", "200", "GET"): hits,
        ("http_server_request_db_queries_sum", "/hit", "GET"): 2 * hits,
        ("http_server_cache_requests_total", "/hit", "miss"): hits,
        ("otel_analytics_events_accepted_total",): hits,
        ("http_server_active_requests", "GET"): 0,
    }
    if ("orders_total",) in scrape:
        expected["orders_total",] = hits
    return {key: scrape.get(key) for key in expected} == expected


def files_of(folder, pids):
    return sorted(path.name for pid in pids for path in folder.rglob(f"*_{pid}.db"))


@pytest.mark.parametrize(
    ("command", "named"),
    [
        pytest.param(UVICORN, True, id="uvicorn"),
        pytest.param(UVICORN, False, id="uvicorn-nothing-set"),
        pytest.param(GUNICORN, False, id="gunicorn-nothing-set"),
        pytest.param((*GUNICORN, "--preload"), True, id="gunicorn-preload"),
    ],
)
def test_several_workers_give_one_right_answer(tmp_path, command, named):
    shared = tmp_path / "metrics"
    shared.mkdir()
    # Metrics made at the import of the application are there before the directory is prepared.
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(shared), "METRICS_AT_IMPORT": "yes"} if named else {}
    service = Service(tmp_path, command, {"TMPDIR": str(shared), **environ})
    with service.running():
        hits, pids = service.hit_until(lambda pids: len(pids) == 2)
        for _ in range(6):
            assert shows(service.scrape(), hits)
        scrape = service.scrape()
        assert scrape["otel_analytics_buffer_events",] == 6
        assert (("orders_total",) in scrape) == named

        with service.client() as client, client.stream("GET", "/hang") as hanging:
            victim = int(next(hanging.iter_text()))
            assert service.scrape()["http_server_active_requests", "GET"] == 1
            os.kill(victim, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{victim}").exists())
        # From the one that is left, and from the one that takes the place of the other.
        assert shows(service.scrape(), hits)
        more, successors = service.hit_until(lambda now: len(now - {victim}) == 2)
        for _ in range(6):
            assert shows(service.scrape(), hits + more)
        pids |= successors
        assert len(pids) == 3
        assert files_of(shared, [victim]) == []

    with service.running():
        assert ("http_server_request_duration_seconds_count", "/hit", "200", "GET") not in service.scrape()
        assert files_of(shared, pids) == []
        hits, _ = service.hit_until(bool)
        assert shows(service.scrape(), hits)


def test_workers_may_come_and_go_under_load(tmp_path):
    """Each ends by itself after some requests, or is killed in the middle of one."""
    shared = tmp_path / "metrics"
    restless = [*GUNICORN[:2], "--workers=4", "--max-requests=60", "--max-requests-jitter=30", *GUNICORN[3:]]
    service = Service(tmp_path, restless, {"PROMETHEUS_MULTIPROC_DIR": str(shared)})
    answered, cut_off, files, over = [], [], [], threading.Event()

    def hit_on():
        while not over.is_set():
            try:
                answered.append(int(service.get("/hit")))
            except httpx.TransportError:
                cut_off.append(1)

    def watch():
        """Nothing that counts may fall from one scrape to the next; there are several watchers at once."""
        before = {}
        while not over.is_set():
            # A folder that is just being put together may be gone again before it is looked into.
            with contextlib.suppress(httpx.TransportError, FileNotFoundError):
                now = {key: value for key, value in service.scrape().items() if is_counted(key)}
                fallen = {
                    key: (value, now.get(key)) for key, value in before.items() if value > now.get(key, -1)
                }
                assert not fallen
                before = now
                files.append(len(list(shared.rglob("*.db"))))

    with service.running(), ThreadPoolExecutor(6) as threads:
        tasks = [threads.submit(each) for each in (hit_on, hit_on, hit_on, hit_on, watch, watch)]
        try:
            for killed in range(1, KILLS + 1):
                until(lambda least=killed * HITS: len(answered) > least or any(task.done() for task in tasks))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(answered[-1], signal.SIGKILL)
            until(lambda: len(set(answered)) > 2 * KILLS or any(task.done() for task in tasks))
        finally:
            over.set()
        for task in tasks:
            task.result()
        counted = service.scrape()["http_server_request_duration_seconds_count", "/hit", "200", "GET"]
        assert len(answered) <= counted <= len(answered) + len(cut_off)
        # Four workers that live and as many that have just died, three files each; and two of all the dead.
        assert len(files) > KILLS
        assert max(files) <= 8 * 3 + 2


def is_counted(key):
    return key[0].endswith(("_total", "_count", "_sum", "_bucket"))


def test_an_empty_file_of_a_killed_worker_does_not_end_the_scrapes(tmp_path):
    service = Service(tmp_path, UVICORN, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")})
    with service.running():
        (tmp_path / "metrics" / "histogram_1.db").touch()
        hits, _ = service.hit_until(bool)
        assert shows(service.scrape(), hits)


def test_a_directory_that_cannot_be_written_to_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    service = Service(tmp_path, UVICORN, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file" / "metrics")})
    process = subprocess.run(
        service.command,
        cwd=tmp_path,
        env=service.environ,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Application startup failed" in process.stderr
    assert "SettingsError: PROMETHEUS_MULTIPROC_DIR: cannot use" in process.stderr
