"""One application with one of the peers in it, asked in process. Started by `request.py` and `http_load.py`.

Arguments: the name of the subject, the number of routes, the URL of a Redis, the URL of a sink for what peers
send. Each line of standard input is a number of requests; the answer is what one took in microseconds, and
how many requests the peer has taken note of in all. With two more arguments, a port and how many rows a
handler has to write as JSON, it serves HTTP instead.
"""
# Each peer is imported where it is the subject, and all of them are given the same.
# ruff: noqa: ARG001, PLC0415

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, FastAPI

BODY: Final = {"items": ["x" * 40 for _ in range(24)], "page": 1}
"""A kilobyte of JSON."""
PAGES: Final = 50
SORTS: Final = ("name", "price", "-price", "date", "size")
HEADERS: Final = (
    (b"host", b"shop.test"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, br"),
)
BARE: Final = "bare FastAPI"
NATIVE: Final = "native spans"
OURS: Final = "otel-analytics"
BESIDE: Final = "otel-analytics beside native spans"


@dataclass(frozen=True)
class Hooks:
    """How to see that a peer does what it is there for.

    Attributes:
        flush: Has it finish, on the spot, what it would do in the background later.
        count: Requests it has taken note of.
    """

    count: Callable[[], int]
    flush: Callable[[], Any] = lambda: None


def bare(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """FastAPI with nothing in it."""
    return Hooks(lambda: 0)


def native(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """FastAPI's own SERVER span, which nobody exports."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        spans = 0

        def generate_span_id(self) -> int:
            self.spans += 1
            return super().generate_span_id()

    ids = Ids()
    trace.set_tracer_provider(TracerProvider(id_generator=ids))
    app._telemetry["operation_spans"] = False  # noqa: SLF001
    return Hooks(lambda: ids.spans)


def otel_analytics(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """Everything on: span, all fields, hash of the body, histograms, delivery to a real Redis."""
    from redis import Redis

    from otel_analytics import instrument
    from otel_analytics.stream import Keys

    prefix = f"bench{os.getpid()}"
    instrument(
        app,
        redis_url=redis_url,
        key_prefix=prefix,
        hash_key="a secret",
        capture_client=("client_address", "user_agent", "referrer", "session_id"),
        stream_max_entries=100_000_000,
    )
    runtime: Any = app._otel_analytics_runtime  # type: ignore[attr-defined] # noqa: SLF001
    redis = Redis.from_url(redis_url)
    return Hooks(
        lambda: int(redis.hget(Keys.of(prefix).ledger, "accepted") or 0),
        lambda: runtime._recorder.delivery.flush(10),  # noqa: SLF001
    )


def beside_native(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """The same in an application that has tracing of its own, every span sampled."""
    native(app, redis_url, sink)
    return otel_analytics(app, redis_url, sink)


def fastapi_instrumentor(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """OpenTelemetry's instrumentation, without the spans of send and receive, in batches to nowhere."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        spans = 0

        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            self.spans += len(spans)
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

    provider, exporter = TracerProvider(), Nowhere()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["send", "receive"])
    return Hooks(lambda: exporter.spans, provider.force_flush)


def prometheus_fastapi_instrumentator(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """Histograms of duration and sizes."""
    from prometheus_fastapi_instrumentator import Instrumentator

    Instrumentator().instrument(app).expose(app)
    return Hooks(partial(_counted, "http_requests_total"))


def starlette_exporter(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """Histogram of duration by route."""
    from starlette_exporter import PrometheusMiddleware, handle_metrics

    app.add_middleware(PrometheusMiddleware, group_paths=True)
    app.add_route("/metrics", handle_metrics)
    return Hooks(partial(_counted, "starlette_requests_total"))


def apitally(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """Its metrics and request log, sent to the sink."""
    os.environ["APITALLY_OTLP_ENDPOINT"] = sink
    from apitally.fastapi import init
    from apitally.shared import activation, export

    init(app, write_token=f"apt_{'0' * 24}", env="bench")
    spans, export_spans = 0, export.SpoolSpanExporter.export

    def counted(self: Any, batch: Sequence[Any]) -> Any:
        nonlocal spans
        spans += len(batch)
        return export_spans(self, batch)

    export.SpoolSpanExporter.export = counted
    # What a thread of its own does every 15 seconds.
    return Hooks(lambda: spans, lambda: activation.export_worker.run_cycle(None))


def api_analytics(app: FastAPI, redis_url: str, sink: str) -> Hooks:
    """Its middleware, sent to the sink."""
    from api_analytics import core
    from api_analytics.fastapi import Analytics, Config

    app.add_middleware(Analytics, api_key="none", config=Config(server_url=sink))
    sent, post = 0, core._post_requests  # noqa: SLF001

    def counted(api_key: str, waiting: Sequence[Any], *arguments: Any) -> None:
        nonlocal sent
        post(api_key, waiting, *arguments)
        sent += len(waiting)

    def flush() -> None:
        # What a thread of its own does once a minute.
        waiting, core._requests = core._requests, []  # noqa: SLF001
        counted("none", waiting, "FastAPI", 0, sink)

    core._post_requests = counted  # noqa: SLF001
    return Hooks(lambda: sent, flush)


SUBJECTS: Final[dict[str, Callable[[FastAPI, str, str], Hooks]]] = {
    BARE: bare,
    NATIVE: native,
    OURS: otel_analytics,
    BESIDE: beside_native,
    "FastAPIInstrumentor": fastapi_instrumentor,
    "prometheus-fastapi-instrumentator": prometheus_fastapi_instrumentator,
    "starlette_exporter": starlette_exporter,
    "Apitally": apitally,
    "api-analytics": api_analytics,
}


def _counted(name: str) -> int:
    from prometheus_client import REGISTRY

    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name == name))


def application(subject: str, routes: int, redis_url: str, sink: str, rows: int = 0) -> tuple[FastAPI, Hooks]:
    """Routers of ten routes each; every answer is a kilobyte, and ours is told who asked."""
    work = [
        {"id": row, "name": f"thing {row}", "price": row * 1.25, "tags": ["new", "red"], "stock": None}
        for row in range(rows)
    ]
    app = FastAPI(openapi_url=None)
    note_user: Callable[[str], None] = lambda _: None  # noqa: E731
    if subject in (OURS, BESIDE):
        from otel_analytics import set_user

        note_user = set_user
    hooks = SUBJECTS[subject](app, redis_url, sink)
    for number in range(routes // 10):
        router = APIRouter(prefix=f"/group{number}")
        for route in range(10):

            async def answer(item: int, page: int = 1, sort: str = "name") -> dict[str, Any]:
                note_user(f"user{item % 100}")
                if work:
                    json.dumps(work)
                return BODY

            router.add_api_route(f"/things{route}/{{item}}", answer)
        app.include_router(router)
    return app, hooks


def address(number: int, routes: int) -> tuple[str, str]:
    """Path and query of a request: each route in turn, with pages and orders that vary."""
    route = number * 7 % routes
    path = f"/group{route // 10}/things{route % 10}/{number % 1_000}"
    return path, f"page={number % PAGES}&sort={SORTS[number % len(SORTS)]}"


class Client:
    """Asks an application the way a server does, but in memory.

    Attributes:
        asked: Requests so far.
        bytes: Of bodies that were answered.
    """

    def __init__(self, app: FastAPI, routes: int) -> None:
        """Nothing is asked yet."""
        self.asked = 0
        self.bytes = 0
        self._app = app
        self._routes = routes

    async def ask(self) -> None:
        """One request."""
        self.asked += 1
        path, query = address(self.asked, self._routes)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": list(HEADERS),
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8_000),
            "state": {},
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message  # noqa: PLR2004
        else:
            self.bytes += len(message.get("body", b""))


async def answer_rounds(app: FastAPI, hooks: Hooks, routes: int) -> None:
    """Ask as often as each line of standard input says."""
    client = Client(app, routes)
    async with _Lifespan(app):  # which is where some peers start
        for _ in range(200 + routes):
            await client.ask()
        hooks.flush()
        assert client.bytes >= 1_000 * client.asked
        print("ready", flush=True)
        for line in sys.stdin:
            requests = int(line)
            processor, thread, wall = time.process_time(), time.thread_time(), time.perf_counter()
            for _ in range(requests):
                await client.ask()
            thread, wall = time.thread_time() - thread, time.perf_counter() - wall
            hooks.flush()
            processor = time.process_time() - processor
            per_request = {"wall": wall, "thread": thread, "processor": processor}
            answer = {name: seconds / requests * 1e6 for name, seconds in per_request.items()}
            print(json.dumps({**answer, "asked": client.asked, "counted": hooks.count()}), flush=True)


class _Lifespan:
    """Startup and shutdown as a server brings them."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._said: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._to_app.get, self._send))
        await self._pass("startup")

    async def __aexit__(self, *_: object) -> None:
        await self._pass("shutdown")
        await self._task

    async def _pass(self, what: str) -> None:
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        said = await self._said.get()
        assert said == f"lifespan.{what}.complete", said

    async def _send(self, message: Any) -> None:
        self._said.put_nowait(message["type"])


def main() -> None:
    """As the arguments say."""
    logging.disable(logging.CRITICAL)
    name, routes, redis_url, sink, *http = sys.argv[1:]
    port, rows = map(int, http or (0, 0))
    app, hooks = application(name, int(routes), redis_url, sink, rows)
    if port:
        import uvicorn

        uvicorn.run(app, port=port, log_level="error", access_log=False)
    else:
        asyncio.run(answer_rounds(app, hooks, int(routes)))


if __name__ == "__main__":
    main()
