"""Shapes of applications that others wrote, in which a request was once recorded wrongly."""

import asyncio
import http.client
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from backend import PREFIX, make_settings, raw_redis
from fastapi import APIRouter, FastAPI, Response
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from otel_analytics import instrument
from otel_analytics.record import UNMATCHED_ROUTE, decode_events, parse_event


@contextmanager
def served(app, redis_url, *, instrumented=False):
    """Serve the application until the block ends; then all events are on the stream."""
    if not instrumented:
        instrument(app, settings=make_settings(redis_url=redis_url, metrics_path=""))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def ask(address, method, path):
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def recorded(redis_url):
    with raw_redis(redis_url) as client:
        entries = client.xrange(f"{PREFIX}:stream")
    events = [parse_event(item) for _, fields in entries for item in decode_events(fields[b"events"])]
    return [(event.method, event.route, event.status_code) for event in events]


def slow_to_finish(headers):
    """A response whose last message comes when its client has long had all of it, and is gone."""

    async def endpoint():
        async def body():
            if headers:
                yield b"abc"
            await asyncio.sleep(0.1)

        return StreamingResponse(body(), headers=headers)

    return endpoint


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/sized", 200), ("GET", "/sized", 200), ("GET", "/nothing", 204), ("GET", "/unchanged", 304)],
)
def test_a_client_that_goes_with_all_it_expects_did_not_leave_early(redis_url, method, path, status):
    app = FastAPI()
    app.add_api_route("/sized", slow_to_finish({"content-length": "3"}), methods=["GET", "HEAD"])
    app.add_api_route("/nothing", lambda: Response(status_code=204))
    app.add_api_route("/unchanged", lambda: Response(status_code=304))

    async def finish_later(request, call_next):
        response = await call_next(request)
        pieces = response.body_iterator

        async def slowly():
            async for piece in pieces:
                yield piece
            await asyncio.sleep(0.1)

        response.body_iterator = slowly()
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=finish_later)
    with served(app, redis_url) as address:
        assert ask(address, method, path)[0] == status
    assert recorded(redis_url) == [(method, path, status)]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_client_that_goes_before_an_empty_response_left_early(redis_url, method):
    app = FastAPI()
    called = threading.Event()

    async def nothing():
        called.set()
        await asyncio.sleep(0.1)
        return Response(status_code=204)

    app.add_api_route("/nothing", nothing, methods=["GET", "HEAD"])
    with served(app, redis_url) as address:
        with socket.create_connection(address) as client:
            client.sendall(f"{method} /nothing HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            assert called.wait(10)
        time.sleep(0.2)
    assert recorded(redis_url) == [(method, "/nothing", 499)]


@pytest.mark.parametrize("own_tracing", [True, False], ids=["fastapi", "middleware"])
def test_below_a_mount_at_the_root_the_route_is_known(redis_url, tmp_path, own_tracing):
    (tmp_path / "page.html").write_text("page")

    async def status(request):
        return PlainTextResponse("up")

    inner = Starlette(
        routes=[Route("/status/{name}", status), Mount("/files", StaticFiles(directory=tmp_path))]
    )
    app = FastAPI() if own_tracing else Starlette()
    if not own_tracing:
        app.add_middleware(OpenTelemetryMiddleware)
    app.mount("/", inner)
    with served(app, redis_url) as address:
        for path in ("/status/7", "/files/page.html", "/nowhere"):
            ask(address, "GET", path)
    assert recorded(redis_url) == [
        ("GET", "/status/{name}", 200),
        ("GET", "/files/{path}", 200),
        ("GET", "/{path}", 404),
    ]


def mine():
    return PlainTextResponse("mine")


def as_a_route(app):
    app.add_api_route("/metrics", mine)


def in_a_router(app):
    router = APIRouter(prefix="/metrics")
    router.add_api_route("", mine)
    outer = APIRouter()
    outer.include_router(router)
    app.include_router(outer)


def as_a_mount(app):
    app.mount("/metrics", mine())


def in_a_mount(app):
    app.mount("/", Starlette(routes=[Route("/metrics", lambda request: mine())]))


@pytest.mark.parametrize("instrumented_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(
    ("add", "answer", "route"),
    [
        (as_a_route, (200, b"mine"), "/metrics"),
        (in_a_router, (200, b"mine"), "/metrics"),
        (as_a_mount, (307, b""), UNMATCHED_ROUTE),  # Starlette's redirect to the path with a slash
        (in_a_mount, (200, b"mine"), "/metrics"),
    ],
)
def test_metrics_of_the_applications_own_stay_as_they_are(redis_url, add, answer, route, instrumented_first):
    app = FastAPI()
    steps = [lambda: instrument(app, settings=make_settings(redis_url=redis_url)), lambda: add(app)]
    for step in steps if instrumented_first else reversed(steps):
        step()
    with served(app, redis_url, instrumented=True) as address:
        assert ask(address, "GET", "/metrics") == answer
    assert recorded(redis_url) == [("GET", route, answer[0])]


def test_what_is_no_scrape_is_the_applications(redis_url):
    app = FastAPI()
    instrument(app, settings=make_settings(redis_url=redis_url), registry=CollectorRegistry())

    @app.api_route("/{anything:path}", methods=["GET", "POST"])
    def everything(anything: str):
        return PlainTextResponse("mine")

    with served(app, redis_url, instrumented=True) as address:
        assert ask(address, "POST", "/metrics") == (200, b"mine")
        assert b"http_server_request_duration_seconds" in ask(address, "GET", "/metrics")[1]
    assert recorded(redis_url) == [("POST", "/{anything}", 200)]
