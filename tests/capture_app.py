"""One application, served from every source of spans that capture has to live with.

Run as a program: `python capture_app.py <source> <listening descriptor> <settings as JSON>`.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

import asyncpg
import fastapi
import psycopg
import sqlalchemy
import sqlalchemy.ext.asyncio
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from sqlalchemy import text
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from otel_analytics import instrument, set_cache_status, set_user

# --- what a span source is ---

SAMPLERS = {
    "fastapi-ratio": TraceIdRatioBased(0.0),
    "fastapi-late": ALWAYS_OFF,
    "fastapi-lifespan": ParentBased(TraceIdRatioBased(0.5)),
    "fastapi-telemetry": ALWAYS_ON,
    "contrib-before": ParentBased(ALWAYS_OFF),
    "contrib-after": TraceIdRatioBased(0.5),
    "contrib-global": ALWAYS_ON,
    "starlette-middleware": ALWAYS_ON,
    "wrapped": ALWAYS_ON,
}
"""Of the user's own tracer provider; the sources that are not here have none but ours."""

exported = InMemorySpanExporter()
"""What the user's trace backend gets to see."""


def build(source, settings):
    """The application of a source; named `bare:...`, without `instrument()`."""
    bare, source = source.startswith("bare:"), source.removeprefix("bare:")
    provider = make_provider(source)
    instrument_databases()
    app = make_app(source, provider, settings.pop("root_path", ""))
    before, after = ORDERS[source]
    for step in before:
        step(app, provider)
    if not bare:
        instrument(app, user_of=user_of, **settings)
    for step in after:
        step(app, provider)
    return OpenTelemetryMiddleware(app) if source == "wrapped" else app


def make_provider(source):
    if source not in SAMPLERS:
        return None
    provider = TracerProvider(sampler=SAMPLERS[source])
    provider.add_span_processor(SimpleSpanProcessor(exported))
    if source not in ("fastapi-late", "fastapi-lifespan", "fastapi-telemetry"):
        trace.set_tracer_provider(provider)
    return provider


def make_app(source, provider, root_path):
    lifespan = lifespan_of(provider if source == "fastapi-lifespan" else None)
    if source.startswith("starlette"):
        return starlette_app(lifespan)
    if source == "contrib-global":
        FastAPIInstrumentor().instrument()
    telemetry = {"tracer_provider": provider} if source == "fastapi-telemetry" else None
    return fastapi_app(lifespan, telemetry, root_path)


def set_provider(app, provider):
    trace.set_tracer_provider(provider)


def add_contrib(app, provider):
    FastAPIInstrumentor.instrument_app(app)


def add_contrib_asgi(app, provider):
    app.add_middleware(OpenTelemetryMiddleware)


def add_gzip(app, provider):
    app.add_middleware(GZipMiddleware, minimum_size=10)


def add_users(app, provider):
    app.add_middleware(AuthenticationMiddleware, backend=HeaderAuthentication())
    app.add_middleware(UserOnSpan)


def add_http_middleware(app, provider):
    """Of the kind that runs the rest of the application in a task of its own."""

    async def pass_on(request, call_next):
        response = await call_next(request)
        response.headers["x-passed-on"] = "yes"
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)


ORDERS = {
    "fastapi": ((), (add_gzip, add_users)),
    "fastapi-ratio": ((), (add_gzip, add_users)),
    "fastapi-late": ((add_gzip, add_users), (set_provider,)),
    "fastapi-lifespan": ((add_http_middleware,), (add_gzip, add_users)),
    "fastapi-telemetry": ((add_gzip,), (add_users,)),
    "contrib-before": ((add_contrib, add_gzip), (add_users,)),
    "contrib-after": ((add_gzip,), (add_http_middleware, add_users, add_contrib)),
    "contrib-global": ((), (add_gzip, add_users)),
    "starlette": ((add_gzip, add_http_middleware), (add_users,)),
    "starlette-middleware": ((), (add_gzip, add_users, add_contrib_asgi)),
    "wrapped": ((), (add_gzip, add_users)),
}
"""What is done to the application before `instrument()`, and what after it."""


def instrument_databases():
    """Those named by DATABASES; their engines are made afterwards."""
    for name in filter(None, os.environ.get("DATABASES", "").split(",")):
        if name == "sqlalchemy":
            from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor as Instrumentor
        elif name == "psycopg":
            from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as Instrumentor
        else:
            from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor as Instrumentor
        # The instrumentation of SQLAlchemy says that it stops short of 2.1, but it works there.
        Instrumentor().instrument(skip_dep_check=True)


# --- the endpoints, which FastAPI and Starlette share ---

released = asyncio.Event()
waiting: list[str] = []
finished: list[str] = []


async def ping(request: FastAPIRequest):
    return PlainTextResponse("pong")


async def sized(request: FastAPIRequest):
    return PlainTextResponse(request.path_params["letter"] * 1_000)


async def echo(request: FastAPIRequest):
    return PlainTextResponse(str(len(await request.body())))


async def unread(request: FastAPIRequest):
    return PlainTextResponse("not read", status_code=201)


async def boom(request: FastAPIRequest):
    raise UnforeseenError("boom")


async def boom_late(request: FastAPIRequest):
    async def pieces():
        yield b"first"
        raise UnforeseenError("boom")

    return StreamingResponse(pieces())


async def teapot(request: FastAPIRequest):
    raise TeapotError


async def refuse(request: FastAPIRequest):
    raise HTTPException(int(request.path_params["status"]))


async def answer(request: FastAPIRequest):
    """A response with the headers that the query names."""
    return Response(b"answer", headers=dict(request.query_params))


async def cache_status(request: FastAPIRequest):
    set_cache_status(request.path_params["word"])
    return PlainTextResponse("x", headers={"X-Cache": "MISS"})


async def stream(request: FastAPIRequest):
    async def pieces():
        for _ in range(3):
            yield b"piece"
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


async def sse(request: FastAPIRequest):
    async def pieces():
        for number in range(3):
            yield f"data: {number}\n\n".encode()
            await asyncio.sleep(0.1)

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def hang(request: FastAPIRequest):
    waiting.append("hang")
    await released.wait()
    return PlainTextResponse("too late")


async def hang_late(request: FastAPIRequest):
    async def pieces():
        yield b"first"
        waiting.append("hang_late")
        await released.wait()
        yield b"second"

    return StreamingResponse(pieces())


async def background(request: FastAPIRequest):
    async def task():
        # The response is complete, so its event says nothing of all this.
        set_user("late")
        set_cache_status("hit")
        request.scope.update(
            method="POST", path="/late", raw_path=b"/late", query_string=b"late=1", route=None
        )
        await released.wait()
        finished.append("background")

    return PlainTextResponse("done", background=BackgroundTask(task))


async def user_async(request: FastAPIRequest):
    set_user(request.path_params["name"])
    return PlainTextResponse("x")


def user_sync(request: FastAPIRequest):
    set_user(request.path_params["name"])
    return PlainTextResponse("x")


async def user_on_span(request: FastAPIRequest):
    trace.get_current_span().set_attribute(request.path_params["attribute"], "on-span")
    return PlainTextResponse("x")


async def user_unprintable(request: FastAPIRequest):
    set_user(Unprintable())
    return PlainTextResponse("x")


async def thing(request: FastAPIRequest):
    return PlainTextResponse("thing")


async def typed(request: FastAPIRequest):
    number = request.path_params["number"]
    return JSONResponse({}, status_code=200 if number.isdigit() else 422)


async def queries(request: FastAPIRequest):
    """An N+1: one query for the list, and one for each of its N items, in a transaction."""
    run = QUERIES[request.path_params["how"]]
    number = int(request.query_params["n"])
    if asyncio.iscoroutinefunction(run):
        await run(number)
    else:
        await run_in_threadpool(run, number)
    return PlainTextResponse(str(number))


async def control(request: FastAPIRequest):
    match request.path_params["what"]:
        case "release":
            released.set()
            await asyncio.sleep(0.01)
            released.clear()
            waiting.clear()
        case "spans":
            spans = [
                {**json.loads(span.to_json()), "scope": span.instrumentation_scope.name}
                for span in exported.get_finished_spans()
            ]
            exported.clear()
            return JSONResponse(spans)
    return JSONResponse({"waiting": waiting, "finished": finished, "threads": threading.active_count()})


class UnforeseenError(Exception):
    pass


class TeapotError(Exception):
    pass


class Unprintable:
    def __str__(self):
        raise ValueError("cannot be printed")


async def on_teapot(request, error):
    return PlainTextResponse("teapot", status_code=418)


async def on_exception(request, error):
    return PlainTextResponse("handled", status_code=500)


def user_of(request: Request):
    match request.headers.get("x-user-of"):
        case "raise":
            raise ValueError("no user for you")
        case "unprintable":
            return Unprintable()
        case name:
            return name


class UserOnSpan:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        name = dict(scope.get("headers", ())).get(b"x-user-on-span")
        if name:
            trace.get_current_span().set_attribute(name.decode(), "on-span")
        await self.app(scope, receive, send)


class HeaderAuthentication(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("x-signed-in")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None


# --- databases ---

DSN = os.environ.get("DSN", "")
LIST = "SELECT id FROM generate_series(1, {}) AS id"


def query_sqlalchemy(number):
    engine = engines["sync"]
    with engine.begin() as connection:
        for (each,) in connection.execute(text(LIST.format(number))).all():
            connection.execute(text("SELECT :id"), {"id": each})


async def query_sqlalchemy_async(number):
    async with engines["async"].begin() as connection:
        for (each,) in (await connection.execute(text(LIST.format(number)))).all():
            await connection.execute(text("SELECT CAST(:id AS integer)"), {"id": each})


def query_psycopg(number):
    with psycopg.connect(DSN) as connection:
        for (each,) in connection.execute(LIST.format(number)).fetchall():
            connection.execute("SELECT %s", (each,))


async def query_psycopg_async(number):
    async with await psycopg.AsyncConnection.connect(DSN) as connection:
        cursor = await connection.execute(LIST.format(number))
        for (each,) in await cursor.fetchall():
            await connection.execute("SELECT %s", (each,))


async def query_asyncpg(number):
    async with pools["asyncpg"].acquire() as connection, connection.transaction():
        for row in await connection.fetch(LIST.format(number)):
            await connection.fetchval("SELECT $1::integer", row["id"])


QUERIES = {
    "sqlalchemy": query_sqlalchemy,
    "sqlalchemy-async": query_sqlalchemy_async,
    "psycopg": query_psycopg,
    "psycopg-async": query_psycopg_async,
    "asyncpg": query_asyncpg,
}
engines = {}
pools = {}


def lifespan_of(provider):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        if provider is not None:
            trace.set_tracer_provider(provider)
        if not DSN:
            yield
            return
        engines["sync"] = sqlalchemy.create_engine(DSN.replace("postgresql:", "postgresql+psycopg:"))
        # Every request connects anew, so that opening a connection is seen not to count.
        engines["async"] = sqlalchemy.ext.asyncio.create_async_engine(
            DSN.replace("postgresql:", "postgresql+asyncpg:"), poolclass=NullPool
        )
        async with asyncpg.create_pool(DSN, min_size=0, max_size=2) as pools["asyncpg"]:
            yield {"of": "the lifespan"}
        engines["sync"].dispose()
        await engines["async"].dispose()

    return lifespan


# --- the same application, once for each framework ---

PLAIN = [
    ("/ping", ping),
    ("/sized/{letter}", sized),
    ("/boom", boom),
    ("/boom-late", boom_late),
    ("/teapot", teapot),
    ("/refuse/{status}", refuse),
    ("/answer", answer),
    ("/cache-status/{word}", cache_status),
    ("/stream", stream),
    ("/sse", sse),
    ("/hang", hang),
    ("/hang-late", hang_late),
    ("/background", background),
    ("/user-on-span/{attribute}", user_on_span),
    ("/user-unprintable", user_unprintable),
    ("/files/{name:path}", thing),
    ("/queries/{how}", queries),
    ("/_control/{what}", control),
]
STATIC = StaticFiles(directory=Path(__file__).parent)


def fastapi_app(lifespan, telemetry, root_path):
    app = fastapi.FastAPI(  # which an instrumentation may have replaced
        exception_handlers={TeapotError: on_teapot, Exception: on_exception},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        telemetry=telemetry,
        root_path=root_path,
    )
    for path, endpoint in PLAIN:
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/echo", echo, methods=["POST"], response_model=None)
    app.add_api_route("/unread", unread, methods=["POST"], response_model=None)
    app.add_route("/plain/{id}", thing)

    async def async_dependency(name: str):
        set_user(name)

    def sync_dependency(name: str):
        set_user(name)

    @app.get("/user-async/{name}", dependencies=[Depends(async_dependency)])
    async def with_async_dependency(name: str):
        return "x"

    @app.get("/user-sync/{name}", dependencies=[Depends(sync_dependency)])
    def with_sync_dependency(name: str):
        return "x"

    @app.get("/typed/{number}")
    def with_type(number: int):
        return {}

    items, v1, api = APIRouter(prefix="/items"), APIRouter(prefix="/v1"), APIRouter()
    items.add_api_route("/{id}", thing, methods=["GET"], response_model=None)
    items.add_api_route("", thing, methods=["GET"], response_model=None)
    v1.include_router(items)
    api.include_router(v1)
    api.mount("/regions/{region}", deep := FastAPI())
    deep.add_api_route("/things/{id}", thing, methods=["GET"], response_model=None)
    api.add_route("/plain/{id}", thing)
    app.include_router(api, prefix="/api")

    sub, deep = FastAPI(), FastAPI()
    for each in (sub, deep):
        each.add_api_route("/things/{id}", thing, methods=["GET"], response_model=None)
    sub.mount("/deep", deep)
    sub.add_route("/plain/{id}", thing)
    app.mount("/sub", sub)
    tenant = FastAPI()
    tenant.add_api_route("/things/{id}", thing, methods=["GET"], response_model=None)
    tenant.add_api_route("/", thing, methods=["GET"], response_model=None)
    app.mount("/tenants/{tenant}/app", tenant)
    app.mount("/static", STATIC)
    inner = FastAPI()
    inner.add_api_route("/things/{id}", thing, methods=["GET"], response_model=None)
    instrument_inner(inner)
    app.mount("/inner", inner)
    return app


def starlette_app(lifespan):
    things = [Route("/things/{id}", thing)]
    inner = Starlette(routes=things)
    instrument_inner(inner)
    return Starlette(
        exception_handlers={TeapotError: on_teapot, Exception: on_exception},
        routes=[
            *(Route(path, endpoint, methods=["GET", "HEAD"]) for path, endpoint in PLAIN),
            Route("/echo", echo, methods=["POST"]),
            Route("/unread", unread, methods=["POST"]),
            Route("/plain/{id}", thing),
            Route("/user-async/{name}", user_async),
            Route("/user-sync/{name}", user_sync),
            Route("/typed/{number}", typed),
            Mount(
                "/api",
                routes=[
                    Mount("/v1", routes=[Route("/items/{id}", thing), Route("/items", thing)]),
                    Mount("/regions/{region}", routes=things),
                    Route("/plain/{id}", thing),
                ],
            ),
            Mount(
                "/sub",
                app=Starlette(
                    routes=[
                        *things,
                        Route("/plain/{id}", thing),
                        Mount("/deep", app=Starlette(routes=things)),
                    ]
                ),
            ),
            Mount("/tenants/{tenant}/app", app=Starlette(routes=[*things, Route("/", thing)])),
            Mount("/static", app=STATIC),
            Mount("/inner", app=inner),
        ],
        lifespan=lifespan,
    )


def instrument_inner(app):
    if "INSTRUMENT_INNER" in os.environ:
        for _ in range(2):
            instrument(app, user_of=lambda request: "the inner application's")


def main():
    source, descriptor, settings = sys.argv[1:]
    app = build(source, json.loads(settings))
    listening = socket.socket(fileno=int(descriptor))
    # Large heads come to the application, however they are cut on the way.
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=5, h11_max_incomplete_event_size=1_000_000
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
