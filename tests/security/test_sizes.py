"""However much a client and an application send, an event stays small."""

import asyncio

from backend import PREFIX, make_settings, raw_redis
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from service import served

from otel_analytics import instrument, set_cache_status, set_user
from otel_analytics.settings import CLIENT_FIELDS

MOST_BYTES = 256 * 1024
"""Of an event on the stream, as docs/security.md has it; nearly all of it would be parameters."""
MUCH = 2**20


def test_a_flood_in_one_request_is_an_event_of_bounded_size(redis_url):
    app = FastAPI()

    @app.get("/{rest:path}")
    def answer(rest: str) -> Response:
        set_user("\xff" * MUCH)
        set_cache_status("\xff" * MUCH)
        return Response("x", headers={"Cache-Status": "x" * MUCH})

    settings = make_settings(redis_url, capture_client=CLIENT_FIELDS, export_interval_seconds=30.0)
    instrument(app, settings=settings, registry=CollectorRegistry())
    flood = b"\xff" * MUCH
    headers = [(name, flood) for name in (b"user-agent", b"referer", b"x-session-id", b"traceparent")]
    queries = (flood, b"&".join(b"p%d=%s" % (n, b"\xff" * 400) for n in range(1_000)), b'"=' + b'"' * MUCH)

    async def ask():
        async with served(app):
            for query in queries:
                scope = {
                    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
                    "method": "GET", "path": "/" + "\xff" * MUCH, "raw_path": b"/" + flood, "root_path": "",
                    "query_string": query, "headers": headers, "server": ("app", 80), "client": None,
                    "state": {},
                }  # fmt: skip
                await app(scope, receive, send)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        pass

    asyncio.run(ask())
    with raw_redis(redis_url) as client:
        ((_, entry),) = client.xrange(f"{PREFIX}:stream")
    assert entry[b"n"] == b"3"
    assert len(entry[b"events"]) < 3 * MOST_BYTES
    assert len(entry[b"events"]) > MOST_BYTES / 2  # the flood did arrive
