"""What becomes of requests that are over, where something of ours goes wrong."""

import asyncio
import gc
import weakref

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from otel_analytics import instrument

NOBODY = "redis://127.0.0.1:1/0"


def served(requests=1):
    """An application that has served so many requests, and its registry."""
    app, registry = FastAPI(), CollectorRegistry()

    @app.get("/things")
    async def things():
        return {}

    instrument(app, redis_url=NOBODY, registry=registry, flush_timeout_seconds=0.1)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            for _ in range(requests):
                assert (await client.get("/things")).status_code == 200

    asyncio.run(ask())
    return app, registry


def test_an_application_that_is_gone_is_not_held_by_its_delivery():
    app, registry = served()
    held = weakref.ref(app)
    del app
    gc.collect()
    assert held() is None
    # And what it served is counted all the same.
    name = "http_server_request_duration_seconds_count"
    labels = {"http_request_method": "GET", "http_route": "/things", "http_response_status_code": "200"}
    assert registry.get_sample_value(name, labels) == 1


def test_events_are_delivered_where_requests_in_progress_cannot_be_counted(monkeypatch):
    def fail(_):
        raise OSError("No space left on device")

    app, registry = served()
    monkeypatch.setattr("otel_analytics.live.metrics.LiveMetrics.count_active", fail)
    runtime = app._otel_analytics_runtime

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            await client.get("/things")

    asyncio.run(ask())
    runtime._backlog.catch_up()
    assert runtime._recorder.delivery._offered == 2
    assert registry.get_sample_value("otel_analytics_capture_errors_total") >= 1


@pytest.mark.parametrize("field", ["user_agent", "session_id"])
def test_headers_are_read_while_they_are_there(field):
    app, registry = FastAPI(), CollectorRegistry()
    instrument(app, redis_url=NOBODY, registry=registry, capture_client=(field,), flush_timeout_seconds=0.1)
    ended = []
    runtime = app._otel_analytics_runtime
    headers = [(b"user-agent", b"curl"), (b"x-session-id", b"s1"), (b"authorization", b"secret")]

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        pass

    async def ask():
        scope = {
            "type": "http", "method": "GET", "scheme": "http", "root_path": "", "path": "/things",
            "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
        }  # fmt: skip
        runtime.prepare()
        runtime.start()
        runtime._backlog._take = ended.extend
        await app(scope, receive, send)
        headers.clear()
        runtime._backlog.catch_up()

    asyncio.run(ask())
    assert sorted(ended[0].headers) == [(b"user-agent", b"curl"), (b"x-session-id", b"s1")]
