"""One application with one of the peers in it, asked in process. Started by `request.py`.

Arguments: the name of the subject, the number of routes, the URL of a Redis, the URL of a sink for what peers send.
Each line of standard input is a number of requests; the answer is what a request took, as JSON.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, FastAPI

BODY = {"items": ["x" * 40 for _ in range(24)], "page": 1}
"""A kilobyte of JSON."""
IDLE_SECONDS = 0.7
"""Until the background has sent what it sends at once."""
Install = Callable[[FastAPI, str, str], Callable[[], Any] | None]


def bare(app: FastAPI, redis_url: str, sink: str) -> None:
    """FastAPI with nothing in it."""
    app._telemetry = {"exclude": lambda _: True}  # type: ignore[attr-defined] # noqa: SLF001 - no spans at all


def native(app: FastAPI, redis_url: str, sink: str) -> None:
    """FastAPI's own SERVER span, which nobody exports."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    app._telemetry["operation_spans"] = False  # type: ignore[attr-defined] # noqa: SLF001


def otel_analytics(app: FastAPI, redis_url: str, sink: str) -> None:
    """Everything on: span, all fields, hash of the body, histograms, delivery to a real Redis."""
    from otel_analytics import instrument

    fields = ("client_address", "user_agent", "referrer", "session_id")
    instrument(
        app, redis_url=redis_url, hash_key="a secret", capture_client=fields, stream_max_entries=100_000_000
    )


def fastapi_instrumentor(app: FastAPI, redis_url: str, sink: str) -> Callable[[], Any]:
    """OpenTelemetry's instrumentation, without the spans of send and receive, in batches to nowhere."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["send", "receive"])
    return provider.force_flush


def prometheus_fastapi_instrumentator(app: FastAPI, redis_url: str, sink: str) -> None:
    """Histograms of duration and sizes."""
    from prometheus_fastapi_instrumentator import Instrumentator

    bare(app, redis_url, sink)
    Instrumentator().instrument(app).expose(app)


def starlette_exporter(app: FastAPI, redis_url: str, sink: str) -> None:
    """Histogram of duration by route."""
    from starlette_exporter import PrometheusMiddleware

    bare(app, redis_url, sink)
    app.add_middleware(PrometheusMiddleware, group_paths=True)


def apitally(app: FastAPI, redis_url: str, sink: str) -> None:
    """Its metrics and request log, sent to the sink."""
    import os

    os.environ["APITALLY_OTLP_ENDPOINT"] = sink
    from apitally.fastapi import init

    init(app, write_token=f"apt_{'0' * 24}", env="bench")


def api_analytics(app: FastAPI, redis_url: str, sink: str) -> None:
    """Its middleware, sent to the sink."""
    from api_analytics.fastapi import Analytics, Config

    bare(app, redis_url, sink)
    app.add_middleware(Analytics, api_key="none", config=Config(server_url=sink))


SUBJECTS: dict[str, Install] = {
    "bare": bare,
    "native spans": native,
    "otel-analytics": otel_analytics,
    "FastAPIInstrumentor": fastapi_instrumentor,
    "prometheus-fastapi-instrumentator": prometheus_fastapi_instrumentator,
    "starlette_exporter": starlette_exporter,
    "apitally": apitally,
    "api-analytics": api_analytics,
}


def application(subject: str, routes: int) -> FastAPI:
    """Routers of ten routes each; every answer is a kilobyte, and says who asked where that can be said."""
    app = FastAPI()
    identify: Callable[[str], None] = lambda _: None  # noqa: E731
    if subject == "otel-analytics":
        from otel_analytics import set_user

        identify = set_user
    for number in range(routes // 10):
        router = APIRouter(prefix=f"/group{number}")
        for route in range(10):

            async def answer(item: int, page: int = 1) -> dict[str, Any]:
                identify(f"user{item}")
                return BODY

            router.add_api_route(f"/things{route}/{{item}}", answer)
        app.include_router(router)
    return app


class Client:
    """Asks an application the way a server does, but in memory."""

    def __init__(self, app: FastAPI, routes: int) -> None:
        self._app = app
        self._paths = [f"/group{n // 10}/things{n % 10}/{n}" for n in range(routes)]
        self._number = 0
        self.bytes = 0

    async def ask(self) -> None:
        """One request; each route in turn."""
        self._number += 1
        path = self._paths[self._number * 7 % len(self._paths)]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"page=2&sort=asc",
            "headers": [
                (b"host", b"shop.test"),
                (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
                (b"accept", b"application/json"),
                (b"accept-encoding", b"gzip, br"),
            ],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8_000),
            "state": {},
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
        else:
            self.bytes += len(message.get("body", b""))


async def serve(subject: str, routes: int, redis_url: str, sink: str) -> None:
    """Answer each line of standard input."""
    logging.disable(logging.CRITICAL)
    app = application(subject, routes)
    flush = SUBJECTS[subject](app, redis_url, sink)
    client = Client(app, routes)
    stack = AsyncExitStack()
    await stack.enter_async_context(_lifespan(app))
    for _ in range(200 + 2 * routes):
        await client.ask()
    assert client.bytes >= 1_000 * (200 + 2 * routes)
    print("ready", flush=True)
    for line in sys.stdin:
        requests = int(line)
        processor, wall = time.process_time(), time.perf_counter()
        for _ in range(requests):
            await client.ask()
        wall = time.perf_counter() - wall
        if flush:
            flush()
        time.sleep(IDLE_SECONDS)
        processor = time.process_time() - processor
        print(json.dumps({"wall": wall / requests * 1e6, "processor": processor / requests * 1e6}), flush=True)
    await stack.aclose()


class _lifespan:  # noqa: N801 - used as a function
    """Startup and shutdown as a server brings them."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._go = asyncio.Event()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._asked = False

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(
            self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._receive, self._send)
        )
        await self._up.wait()

    async def __aexit__(self, *_: object) -> None:
        self._go.set()
        await self._down.wait()
        await self._task

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._go.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        (self._up if message["type"].startswith("lifespan.startup") else self._down).set()


if __name__ == "__main__":
    name, count, redis, target = sys.argv[1:]
    asyncio.run(serve(name, int(count), redis, target))
