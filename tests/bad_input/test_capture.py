"""What clients send that no client should, byte by byte, and what hooks do that no hook should.

Odd but well-formed requests are in contract/test_never_in_the_way.py, odd ASGI messages in
contract/test_in_process.py.
"""

import asyncio
import contextlib
import datetime as dt
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from asgi import run, scope_of
from backend import make_settings, make_worker, raw_postgres, raw_redis, scalar
from capture_sources import Server
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from service import UVICORN, Service, events
from waiting import until

from otel_analytics import instrument, set_cache_status, set_user
from otel_analytics.record import (
    MAX_ROUTE_FULL_LENGTH,
    MAX_TEXT_LENGTH,
    decode_events,
    parse_event,
)

ALL_CLIENT_FIELDS = ("client_address", "user_agent", "referrer", "session_id")
SOURCES = ("fastapi", "contrib-before", "starlette", "wrapped")
NOT_HTTP = b"Invalid HTTP request received."
"""What uvicorn answers where it does not call the application."""
FLOOD = int(os.environ.get("FLOOD", "2500"))
"""Requests of each kind of flood."""


# --- on the wire


PING = b"GET /ping HTTP/1.1"


def request(line=PING, *headers, host=b"host: service", body=b""):
    lines = [line, *([host] if host else []), b"connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


def get(target):
    return request(b"GET " + target + b" HTTP/1.1")


def post(*headers, body=b"abc"):
    return request(b"POST /echo HTTP/1.1", *headers, body=body)


SENT = {
    "traceparent and baggage of raw bytes": request(
        PING,
        b"traceparent: 00-\xff\xfe",
        b"tracestate: \xff=,=,",
        b"baggage: \xff=;=,%FF=%00",
    ),
    "two traceparents": request(
        PING, b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"traceparent: x"
    ),
    "a baggage of 3,000 members": request(PING, b"baggage: " + b",".join(b"k%d=v" % n for n in range(3_000))),
    "1,000 headers": request(PING, *[b"x-%d: y" % n for n in range(1_000)]),
    "a header of 60 kB that is no UTF-8": request(PING, b"referer: " + b"\xe9" * 60_000),
    "a header of 70 kB": request(PING, b"user-agent: " + b"x" * 70_000),
    "addresses that are none": request(
        PING, b"x-forwarded-for: \xff", b"forwarded: for=\xff", b"x-session-id: \xff\x7f"
    ),
    "headers named like ours": request(PING, b"otel_analytics: 1", b"otel_analytics.event_id: 1"),
    "a host of raw bytes": request(host=b"host: \xff\xfe"),
    "half a host": request(host=b"host: [::1"),
    "a port that is none": request(host=b"host: a:b:99999999"),
    "an empty host": request(host=b"host:"),
    "no host": request(host=None),
    "two hosts": request(PING, b"host: other"),
    "a raw byte in the query": get(b"/ping?q=\xff&\xff=1"),
    "a raw NUL in the query": get(b"/ping?q=\x00"),
    "a raw NUL in the path": get(b"/files/\x00"),
    "a raw byte in the path": get(b"/files/\xff"),
    "a raw surrogate in the path": get(b"/files/\xed\xa0\x80"),
    "a NUL and a surrogate, encoded": get(b"/files/%00%ED%A0%80%FF"),
    "a path of 60 kB": get(b"/files/" + b"x" * 60_000),
    "a path of 200 kB": get(b"/files/" + b"x" * 200_000),
    "parameters nested 5,000 deep": get(b"/ping?a" + b"[b]" * 5_000 + b"=1"),
    "a parameter 10,000 times": get(b"/ping?" + b"&".join([b"a[]=1"] * 10_000)),
    "a value encoded 300 times": get(b"/ping?u=%" + b"25" * 300 + b"3Ftoken%" + b"25" * 300 + b"3Dabc"),
    "an unknown method": request(b"FOO /ping HTTP/1.1"),
    "an unknown method for no route": request(b"FOO /nowhere HTTP/1.1"),
    "a method in lower case": request(b"get /ping HTTP/1.1"),
    "a method of 500 letters": request(b"M" * 500 + b" /ping HTTP/1.1"),
    "a method of raw bytes": request(b"G\xffT /ping HTTP/1.1"),
    "OPTIONS *": request(b"OPTIONS * HTTP/1.1"),
    "CONNECT": request(b"CONNECT a.example:443 HTTP/1.1"),
    "an address for a path": get(b"http://[::1/ping?x=1"),
    "a path without a slash": get(b"ping"),
    "two slashes": get(b"//evil.example/ping"),
    "a fragment": get(b"/ping#fragment?x"),
    "a length that is no number": post(b"content-length: abc"),
    "a length of 5,000 digits": post(b"content-length: " + b"9" * 5_000),
    "a length below zero": post(b"content-length: -1"),
    "two lengths": post(b"content-length: 3", b"content-length: 4"),
    "a length and chunks": post(
        b"content-length: 3", b"transfer-encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"
    ),
    "chunks that are none": post(b"transfer-encoding: chunked", body=b"zz\r\nabc\r\n"),
    "an encoding of raw bytes": post(b"transfer-encoding: \xff"),
    "HTTP/0.9": b"GET /ping\r\n\r\n",
    "HTTP/1.0": b"GET /ping HTTP/1.0\r\n\r\n",
    "HTTP/9.9": request(b"GET /ping HTTP/9.9"),
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "an upgrade to a websocket": request(PING, b"upgrade: websocket", b"connection: upgrade"),
}
BREAKS = request(PING, b"user-agent: \xff\\")
"""The official instrumentation takes the header for UTF-8, or else for Python's escapes, and raises."""


def exchange(server, sent):
    """All bytes that the server answers, but for the date."""
    answered = b""
    with server.connect() as connection:
        # A server that has seen enough closes the connection, which may come before all is sent or read.
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65_536):
                answered += piece
    return re.sub(rb"(?im)^date: [^\r]*\r\n", b"", answered)


each_source = pytest.mark.parametrize(
    "source", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in SOURCES]
)


@pytest.mark.parametrize("sent", SENT)
@each_source
def test_the_answer_is_that_of_the_bare_application(both, source, sent):
    server, bare = both(source)
    errors = server.capture_errors()
    expected = exchange(bare, SENT[sent])
    assert exchange(server, SENT[sent]) == expected
    assert expected.startswith(b"HTTP/1.1 ")
    found = server.drain()
    # Where a body turns out to be none, the application was called, and hears that the client is gone.
    assert len(found) == 1 or (NOT_HTTP in expected and not found)
    for event in found:
        assert event.status_code == (499 if NOT_HTTP in expected else int(expected.split()[1]))
        assert event.route in {"/ping", "/files/{name}", "/echo", "(unmatched)"}
        assert len(event.route_full) <= MAX_ROUTE_FULL_LENGTH
        assert "abc" not in event.route_full
        assert all(len(text or "") <= MAX_TEXT_LENGTH for text in event[-4:])
    assert server.capture_errors() == errors


@each_source
def test_where_the_official_instrumentation_breaks_the_application_it_does_so_without_us(both, source):
    server, bare = both(source)
    expected = exchange(bare, BREAKS)
    assert exchange(server, BREAKS) == expected
    is_broken = source in ("contrib-before", "wrapped")
    assert (b" 500 " in expected) == is_broken
    if source == "wrapped":  # what fails stands around the application, so the request never came to it
        assert server.drain() == []
        return
    (event,) = server.drain()
    assert event.status_code == (500 if is_broken else 200)
    assert event.user_agent == "\xff\\"


def test_a_unix_socket_has_no_client(redis_url, tmp_path):
    environ = {
        "OTEL_ANALYTICS_REDIS_URL": redis_url,
        "OTEL_ANALYTICS_CAPTURE_CLIENT": "client_address,user_agent",
    }
    service = Service(tmp_path, UVICORN, environ)
    with service.running():
        service.get("/items/7")
    (event,) = [each for each in events(redis_url) if each.route == "/items/{number}"]
    assert (event.client_address, event.status_code) == (None, 200)
    assert event.user_agent.startswith("python-httpx")


# --- floods


def flood(server, targets):
    """Ask for them all on one connection, without waiting for the answers in between."""
    with server.connect() as connection:
        answered = 0
        for start in range(0, len(targets), 50):
            batch = targets[start : start + 50]
            connection.sendall(b"".join(b"GET %b HTTP/1.1\r\nhost: service\r\n\r\n" % each for each in batch))
            received = b""
            while received.count(b"HTTP/1.1 ") < len(batch) or not received.endswith((b"pong", b"}")):
                received += connection.recv(65_536)
            answered += received.count(b"HTTP/1.1 ")
    return answered


def memory_kb(server):
    status = Path(f"/proc/{server._process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def metrics(server):
    return server.get("/metrics").body.decode().splitlines()


def series(server):
    return {line.rpartition(" ")[0] for line in metrics(server) if line.startswith("http_")}


def until_delivered(server):
    until(lambda: any(line == "otel_analytics_buffer_events 0.0" for line in metrics(server)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_floods_of_paths_and_of_parameters_make_nothing_grow(redis_url, migrated_dsn, tmp_path):
    server = Server("fastapi", redis_url, tmp_path, buffer_size=1_000)
    store = make_settings(redis_url, migrated_dsn, key_prefix=server.prefix, max_patterns_per_route=20)
    try:
        for number in range(2):  # the first time, buffers and caches fill
            flood(server, [b"/nowhere/%d/%d" % (number, n) for n in range(FLOOD)])
            flood(server, [b"/ping?p%d-%d=%d" % (number, n, n) for n in range(FLOOD)])
            if number == 0:
                until_delivered(server)
                before, series_before = memory_kb(server), series(server)
        until_delivered(server)
        assert memory_kb(server) - before < 8_000
        assert series(server) == series_before
    finally:
        server.stop()
    with make_worker(store, now=dt.datetime.now(dt.UTC)) as worker:
        worker.run_once()
    with raw_postgres(migrated_dsn) as connection:
        report = dict(
            connection.execute("SELECT route, count(*) FROM route_analytics GROUP BY route").fetchall()
        )
        hours = scalar(connection, 'SELECT count(DISTINCT "timestamp") FROM route_analytics_hourly')
        drops = scalar(connection, "SELECT coalesce(sum(events), 0) FROM route_analytics_drops")
        assert sum(report.values()) + drops >= 4 * FLOOD
        assert set(report) == {"(unmatched)", "/ping"}
        assert scalar(connection, "SELECT count(*) FROM route_analytics_hourly") <= hours * (1 + 21)
        counted = scalar(connection, "SELECT sum(total_requests)::int FROM route_analytics_hourly")
        assert counted == sum(report.values())


# --- what only other servers let through


odd_bytes = st.binary(max_size=30)
odd_text = st.text(st.characters(exclude_categories=()), max_size=30)
odd_scopes = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "FOO", "get", "M" * 5_000, "", "\ud800"]),
        "path": odd_text.map(lambda text: f"/things/{text}") | odd_text | st.just("/things/" + "x" * 200_000),
        "query_string": odd_bytes | st.just(b"\xff" * 200_000),
        "headers": st.lists(
            st.tuples(
                st.sampled_from(
                    [b"user-agent", b"referer", b"host", b"content-length", b"traceparent", b"\xff"]
                ),
                odd_bytes | st.sampled_from([b"abc", b"9" * 5_000, b"-1", b"x" * 70_000, b"\xff\\"]),
            ),
            max_size=4,
        ),
    },
    optional={
        "raw_path": odd_bytes,
        "root_path": st.just("") | st.text("/things", max_size=8),
        "client": st.none() | st.just(("\udcff", 0)),
    },
)


def application(endpoint, **settings):
    """The same application bare and instrumented."""
    pair = []
    for number in range(2):
        app = FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)})
        app.add_api_route("/things/{id:path}", endpoint, methods=["GET", "HEAD"], response_model=None)
        if number:
            instrument(app, registry=CollectorRegistry(), **settings)
        pair.append(app)
    return pair


def errors_of(app):
    page = app._otel_analytics_runtime.scrape("")[0].decode()
    (line,) = (each for each in page.splitlines() if each.startswith("otel_analytics_capture_errors_total"))
    return float(line.split()[1])


def stored(redis_url):
    """The events on the stream as a worker takes them: once, though a slow Redis may hold them twice."""
    with raw_redis(redis_url) as client:
        entries = client.xrange("route_analytics:stream")
        client.flushall()
    found = [parse_event(item) for _, fields in entries for item in decode_events(fields[b"events"])]
    return list({event.event_id: event for event in found}.values())


async def echo(request: Request):
    return PlainTextResponse(f"{len(request.url.path)}", headers={"x-cache": "HIT"})


@settings(max_examples=40)
@given(scopes=st.lists(odd_scopes, min_size=5, max_size=5))
def test_any_scope_has_the_answer_of_the_bare_application(one_redis, scopes):
    bare, app = application(echo, redis_url=one_redis, capture_client=ALL_CLIENT_FIELDS)
    with raw_redis(one_redis) as client:
        client.flushall()  # what others have left there may be anything
    outcomes = [
        [outcome(each, scope_of("/") | {**scope, "headers": list(scope["headers"])}) for scope in scopes]
        for each in (bare, app)
    ]
    assert outcomes[0] == outcomes[1]
    app._otel_analytics_runtime.stop()
    found = stored(one_redis)
    assert len(found) == len(scopes)
    assert errors_of(app) == 0


def outcome(app, scope):
    try:
        return run(app, scope)
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("length", [b"abc", b"9" * 5_000, b"-1", b"\xb2", b""])
def test_a_response_whose_length_is_none(redis_url, length):
    async def endpoint():
        response = PlainTextResponse("hello")
        response.raw_headers = [(b"content-length", length), (b"x-cache", b"HIT")]
        return response

    bare, app = application(endpoint, redis_url=redis_url)
    assert run(app, scope_of("/things/7")) == run(bare, scope_of("/things/7"))
    (event,) = stored(redis_url)
    assert (event.response_size_bytes, event.cache_status, event.status_code) == (5, "hit", 200)
    assert event.response_hash is not None
    assert errors_of(app) == 0


# --- hooks


class Hostile:
    """An object whose text is not to be had, or too much of it."""

    def __init__(self, behave):
        self._behave = behave

    def __str__(self):
        return self._behave()


def raising(error):
    def hook(*_):
        raise error

    return hook


def hostile(behave, _request):
    return Hostile(behave)


async def asynchronous(_):
    return "ada"


class AsynchronousObject:
    async def __call__(self, _):
        return "ada"


ERRORS = [
    ValueError("x"),
    RecursionError(),
    MemoryError(),
    SystemExit(3),
    asyncio.CancelledError(),
    StopIteration(),
]
USERS = {
    **{f"raises {type(error).__name__}": (raising(error), None) for error in ERRORS},
    **{
        f"has a text that raises {type(error).__name__}": (
            partial(lambda e, _: Hostile(raising(e)), error),
            None,
        )
        for error in ERRORS
    },
    "has a text that is none": (partial(hostile, lambda: 7), None),
    "has a text of 1 MB": (partial(hostile, lambda: "x" * 1_000_000), "x" * MAX_TEXT_LENGTH),
    "has a text that cannot be stored": (lambda _: "a\0\ud800", "a\ufffd\ufffd"),
    "is bytes": (lambda _: b"\xff", "b'\\xff'"),
    "is async in disguise": (
        partial(lambda hook, request: hook(request), asynchronous),
        None,
    ),
    "is an object that is async": (AsynchronousObject(), None),
}


@pytest.mark.parametrize("user", USERS)
def test_a_user_hook_is_no_business_of_the_response(redis_url, user):
    hook, expected = USERS[user]

    async def endpoint():
        return PlainTextResponse("hello")

    bare, app = application(endpoint, redis_url=redis_url, user_of=hook)
    assert run(app, scope_of("/things/7")) == run(bare, scope_of("/things/7"))
    (event,) = stored(redis_url)
    assert event.user_id == expected
    assert event.status_code == 200
    assert errors_of(app) == (expected is None)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_the_application_says_of_a_request_cannot_fail_it(redis_url, error):
    async def endpoint():
        set_user(Hostile(raising(error)))
        set_cache_status(Hostile(raising(error)))
        return PlainTextResponse("hello")

    bare, app = application(endpoint, redis_url=redis_url)
    assert run(app, scope_of("/things/7")) == run(bare, scope_of("/things/7"))
    (event,) = stored(redis_url)
    assert (event.user_id, event.cache_status) == (None, None)
    assert errors_of(app) == 1


def test_what_the_application_says_of_a_request_is_cut(redis_url):
    async def endpoint():
        set_user("u" * 1_000_000)
        set_cache_status("C" * 1_000_000)
        return PlainTextResponse("hello")

    run(application(endpoint, redis_url=redis_url)[1], scope_of("/things/7"))
    (event,) = stored(redis_url)
    assert event.user_id == "u" * MAX_TEXT_LENGTH
    assert event.cache_status == "c" * MAX_TEXT_LENGTH


def test_a_hook_that_blocks_holds_up_what_comes_next_and_not_its_own_response(redis_url):
    """It runs on the event loop, so nobody could bound it; but by then the response is the server's."""
    order = []

    def hook(_):
        order.append("hook")
        time.sleep(0.2)

    async def endpoint():
        return PlainTextResponse("hello")

    _, app = application(endpoint, redis_url=redis_url, user_of=hook)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        order.append(message["type"])

    asyncio.run(app(scope_of("/things/7"), receive, send))
    app._otel_analytics_runtime.stop()
    assert order == ["http.response.start", "http.response.body", "hook"]
    (event,) = stored(redis_url)
    assert event.duration_ms < 200
