"""What no server sends, or no client over HTTP: messages of ASGI, given to the application directly."""

import asyncio
import contextlib

import httpx
import pytest
from asgi import call, run, scope_of, serving
from backend import raw_redis
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from otel_analytics import instrument, set_cache_status, set_user
from otel_analytics.errors import SettingsError, UsageError
from otel_analytics.record import decode_events, parse_event


@pytest.fixture
def make(redis_url):
    """Instrumented applications that send to an empty Redis."""

    def make(app=None, **settings):
        if app is None:
            app = FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)})
        instrument(app, registry=CollectorRegistry(), redis_url=redis_url, response_hash=False, **settings)
        return app

    return make


@pytest.fixture
def events(redis_url):
    """Those that are on the stream; call it when the application has shut down."""

    def read():
        with raw_redis(redis_url) as client:
            entries = client.xrange("route_analytics:stream")
        return [parse_event(item) for _, fields in entries for item in decode_events(fields[b"events"])]

    return read


def with_endpoint(path, endpoint):
    app = FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)})
    app.add_api_route(path, endpoint, response_model=None)
    return app


def say(text="hello"):
    async def endpoint():
        return PlainTextResponse(text)

    return endpoint


@pytest.mark.parametrize(
    "parts",
    [
        {"query_string": b"q=\xff&\xfe=\x00"},
        {"raw_path": b"/things/\xff\x00"},
        {"headers": [(b"\xff\xfe", b"\xff\\"), (b"user-agent", b"\xff\\"), (b"host", b"[")]},
        {"client": ("127.0.0.1", 1), "server": None},
        {"path": "/things/\ud800"},
        {"path": "/things/\udcff", "raw_path": b"/things/\xff"},
    ],
    ids=["query", "raw path", "headers", "no server", "lone surrogate", "escaped byte"],
)
def test_scopes_with_odd_bytes(make, events, parts):
    def build():
        return with_endpoint("/things/{id}", say())

    scope = lambda: scope_of("/things/7") | parts  # noqa: E731 - each call changes its own
    assert run(make(build()), scope()) == run(build(), scope())
    (event,) = events()
    assert (event.route, event.status_code) == ("/things/{id}", 200)


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_headers_that_can_be_read_once(make, events, framework):
    async def app_below(scope, receive, send):
        headers = iter([(b"x-cache", b"HIT"), (b"content-length", b"2")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    app = make(framework())
    app.mount("/raw", app_below)
    ((start, _body),) = run(app, scope_of("/raw/x"))
    assert start["headers"] == [(b"x-cache", b"HIT"), (b"content-length", b"2")]
    assert [each.cache_status for each in events()] == ["hit"]


def test_an_application_that_does_not_answer(make, events):
    async def app_below(scope, receive, send):
        pass

    app = make(Starlette())
    app.mount("/raw", app_below)
    assert run(app, scope_of("/raw/x")) == [[]]
    (event,) = events()
    assert (event.status_code, event.error_type, event.ttfb_ms) == (500, "500", None)


class ShopError(Exception):
    pass


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_an_exception_without_any_handler_reaches_the_server(make, events, framework):
    async def fail(request):
        raise ShopError("sold out")

    app = framework()
    app.add_route("/fail/{id}", fail)
    make(app)

    async def one():
        async with serving(app):
            with pytest.raises(ShopError, match="sold out"):
                await call(app, scope_of("/fail/7"))

    asyncio.run(one())
    (event,) = events()
    assert (event.route, event.status_code) == ("/fail/{id}", 500)
    assert event.error_type.endswith(".ShopError")


def test_a_file_that_the_server_sends_by_itself(make, events):
    async def app_below(scope, receive, send):
        headers = [(b"content-length", b"1234")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": "/any"})

    app = make(Starlette())
    app.mount("/raw", app_below)
    run(app, scope_of("/raw/x"))
    assert [each.response_size_bytes for each in events()] == [1234]


def test_what_was_asked_for_too_early_is_not_lost(make, events):
    """Looking for a client that left fetches a message that the application may want later."""
    got = []

    async def app_below(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        got.append(await receive())

    app = make(Starlette())
    app.mount("/raw", app_below)
    run(app, scope_of("/raw/x"))
    assert got == [{"type": "http.request", "body": b"", "more_body": False}]
    assert [each.status_code for each in events()] == [200]


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ((2, [b"ok"], 0), 499),
        ((2, [b"ok", b""], 0), 499),
        ((2, [b"ok", b""], 1), 200),  # it has all it waited for
        ((4, [b"ok", b"ok"], 1), 499),
        ((None, [b"ok", b""], 1), 499),  # without a length it waits for the end
    ],
)
@pytest.mark.parametrize("asks", [False, True])
def test_when_the_client_has_left(make, events, response, status, asks):
    """The server tells it to whoever asks, from some piece of the body on."""
    length, bodies, gone_before = response
    gone = []

    async def app_below(scope, receive, send):
        headers = [] if length is None else [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, body in enumerate(bodies):
            if number == gone_before:
                gone.append(True)
                if asks:
                    await receive()
            is_last = number == len(bodies) - 1
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})

    async def receive():
        return {"type": "http.disconnect"} if gone else await asyncio.Event().wait()

    async def send(message):
        pass

    async def one(app):
        async with serving(app):
            await app(scope_of("/raw/x"), receive, send)

    app = make(FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)}))
    app.mount("/raw", app_below)
    asyncio.run(one(app))
    assert [each.status_code for each in events()] == [status]


def test_websockets_pass_untouched(make, events):
    def build():
        app = FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)})

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket):
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        return app

    async def talk(app):
        scope = {"type": "websocket", "asgi": {"version": "3.0"}, "scheme": "ws", "path": "/ws",
                 "query_string": b"", "headers": [], "subprotocols": []}  # fmt: skip
        async with serving(app):
            return await call(app, scope, [{"type": "websocket.connect"},
                                           {"type": "websocket.receive", "text": "hello"}])  # fmt: skip

    with_us, without = (asyncio.run(talk(app)) for app in (make(build()), build()))
    assert with_us == without
    assert [each["type"] for each in with_us] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert events() == []


def test_the_lifespan_passes_untouched(make):
    states = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield {"pool": "a pool"}

    async def endpoint(request):
        states.append(request.state.pool)
        return PlainTextResponse("x")

    async def live(app):
        async with serving(app) as said:
            pass
        return said

    build = lambda: Starlette(lifespan=lifespan)  # noqa: E731
    assert asyncio.run(live(make(build()))) == asyncio.run(live(build()))


def test_an_application_that_fails_to_start_says_so(make):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no database")
        yield

    async def live(app):
        async with serving(app) as said:
            assert said[0]["type"] == "lifespan.startup.failed"
            assert "no database" in said[0]["message"]

    with pytest.raises(RuntimeError, match="no database"):
        asyncio.run(live(make(Starlette(lifespan=lifespan))))


def test_a_server_without_a_lifespan(make, redis_url):
    """Requests are recorded all the same; the thread delivers them in its time."""
    app = make(with_endpoint("/x", say()), export_interval_seconds=0.001)

    async def one():
        await call(app, scope_of("/x"))
        with raw_redis(redis_url) as client:
            return client.xread({"route_analytics:stream": "0"}, block=10_000)

    assert asyncio.run(one())


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_the_prefix_that_a_server_adds(make, events, root_path):
    """uvicorn --root-path puts it before the path as well."""
    app = make(with_endpoint("/things/{id}", say()), excluded_paths=["/health"])
    run(
        app,
        scope_of(f"{root_path}/things/7", root_path=root_path),
        scope_of(f"{root_path}/metrics", root_path=root_path),
        scope_of(f"{root_path}/health", root_path=root_path),
    )
    assert [each.route for each in events()] == [f"{root_path}/things/{{id}}"]


def test_metrics_of_the_applications_own_are_left_alone(make):
    app = make(with_endpoint("/metrics", say("my own")))
    ((_, body),) = run(app, scope_of("/metrics"))
    assert body["body"] == b"my own"


def test_a_route_that_takes_everything_does_not_hide_the_metrics(make):
    app = make(with_endpoint("/{anything:path}", say("everything")))
    (_, metrics), (_, other) = run(app, scope_of("/metrics"), scope_of("/other"))
    assert b"http_server_request_duration_seconds" in metrics["body"]
    assert other["body"] == b"everything"


def test_an_application_that_calls_another_in_the_process(make, events):
    inner = make(with_endpoint("/inner/{id}", say("inner")))

    async def outer_endpoint():
        set_user("outer")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://inner") as client:
            return PlainTextResponse((await client.get("/inner/7")).text)

    outer = make(with_endpoint("/outer", outer_endpoint))

    async def both():
        async with serving(inner), serving(outer):
            return await call(outer, scope_of("/outer"))

    _, body = asyncio.run(both())
    assert body["body"] == b"inner"
    one, other = sorted(events(), key=lambda event: event.route)
    assert (one.route, one.user_id) == ("/inner/{id}", None)
    assert (other.route, other.user_id) == ("/outer", "outer")
    assert one.span_id != other.span_id


def test_what_tracing_leaves_out_is_left_out(make, events):
    provider = TracerProvider(sampler=ALWAYS_OFF)
    app = FastAPI(telemetry={"tracer_provider": provider, "exclude": lambda scope: scope["path"] == "/no"})
    app.add_api_route("/yes", say(), response_model=None)
    app.add_api_route("/no", say(), response_model=None)
    run(make(app), scope_of("/no"), scope_of("/yes"))
    assert [each.route for each in events()] == ["/yes"]


def test_outside_of_a_request_nothing_happens():
    set_user("nobody")
    set_user(None)
    set_cache_status("hit")


def test_wrong_use_is_said_at_once(make):
    async def user_of(request):
        return "ada"

    with pytest.raises(UsageError, match="before wrapping"):
        instrument(lambda scope, receive, send: None)
    with pytest.raises(UsageError, match="plain function"):
        instrument(FastAPI(), user_of=user_of)
    with pytest.raises(SettingsError, match="unknown argument exclude_paths"):
        instrument(FastAPI(), exclude_paths=["/health"])


def test_an_application_stays_of_its_kind(make):
    class Shop(FastAPI):
        """A shop."""

    app = make(Shop())
    assert isinstance(app, Shop)
    assert (type(app).__name__, type(app).__doc__) == ("Shop", "A shop.")
    assert type(Shop()) is Shop


class Cache:
    """A response cache as a middleware, which answers before the routing."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"].endswith("/uncached"):
            await self.app(scope, receive, send)
            return
        answer = PlainTextResponse("kept", headers={"x-cache": "HIT"})
        await answer(scope, receive, send)


@pytest.mark.parametrize("root_path", ["", "/shop"])
def test_what_a_cache_in_a_middleware_answers_has_its_route(make, events, root_path):
    app = FastAPI(telemetry={"tracer_provider": TracerProvider(sampler=ALWAYS_OFF)})
    router = APIRouter(prefix="/items")
    router.add_api_route("/{item_id}", say())
    router.add_api_route("/{item_id}", say(), methods=["POST"])
    app.include_router(router, prefix="/api")
    mounted = FastAPI()
    mounted.add_api_route("/stock/{place}", say())
    app.mount("/tenants/{tenant}", mounted)
    app.add_middleware(Cache)
    make(app)
    paths = ["/api/items/7", "/tenants/a/stock/north", "/tenants/a/else", "/nowhere", "/api/uncached"]
    run(app, *(scope_of(root_path + path, root_path=root_path) for path in paths))
    assert [(event.route.removeprefix(root_path), event.cache_status) for event in events()] == [
        ("/api/items/{item_id}", "hit"),
        ("/tenants/{tenant}/stock/{place}", "hit"),
        ("/tenants/{tenant}/{path}", "hit"),
        ("(unmatched)", "hit"),
        ("(unmatched)", None),
    ]
