"""Templates, from scopes that real routing has filled in."""

import asyncio

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route

from otel_analytics.capture.routes import template_of


async def endpoint(request):
    return PlainTextResponse("x")


async def api_endpoint():
    return "x"


async def other_endpoint(request):
    return PlainTextResponse("x")


async def below(scope, receive, send):
    await PlainTextResponse("x")(scope, receive, send)


def template(app, path, **parts):
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"",
        "headers": [(b"host", b"service")], **parts,
    }  # fmt: skip

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        pass

    asyncio.run(app(scope, receive, send))
    return template_of(scope, app.routes)


def starlette_app():
    leaf = [Route("/y/{c}", endpoint), Route("/y", endpoint)]
    mount = Mount("/t/{a}/x", routes=[Mount("/{b}", routes=leaf)])
    return Starlette(routes=[mount, Route("/t/{d}/plain", endpoint)])


def fastapi_app():
    inner, middle, app, router = FastAPI(), FastAPI(), FastAPI(), APIRouter()
    inner.add_api_route("/y/{c}", api_endpoint)
    inner.add_route("/y", endpoint)
    middle.mount("/{b}", inner)
    router.mount("/{a}/x", middle)
    router.add_route("/{d}/plain", endpoint)
    app.include_router(router, prefix="/t")
    return app


APPS = {"starlette": starlette_app(), "fastapi": fastapi_app()}
words = st.one_of(
    st.sampled_from(["t", "x", "y", "plain", "{b}", "a", "1", "."]),
    st.text(st.characters(exclude_characters="/\n"), min_size=1, max_size=5),
)


@pytest.mark.parametrize("framework", APPS)
def test_values_never_take_the_place_of_names(framework):
    app = APPS[framework]

    @given(words, words, words)
    def check(a, b, c):
        assert template(app, f"/t/{a}/x/{b}/y/{c}") == "/t/{a}/x/{b}/y/{c}"
        assert template(app, f"/t/{a}/x/{b}/y") == "/t/{a}/x/{b}/y"
        assert template(app, f"/t/{a}/plain") == "/t/{d}/plain"
        assert template(app, f"/t/{a}/x/{b}/nothing") == "/t/{a}/x/{b}/{path}"

    check()


@pytest.mark.parametrize("framework", APPS)
def test_what_is_not_routed_has_no_template(framework):
    assert template(APPS[framework], "/nothing/7") is None
    assert template(APPS[framework], "/t/7/plain/") is None


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_a_mount_of_the_root(framework):
    app = framework()
    app.add_route("/known/{id}", endpoint)
    app.mount("/", below)
    assert template(app, "/known/7") == "/known/{id}"
    assert template(app, "/any/thing") == "/{path}"


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_an_application_mounted_at_the_root(framework):
    inner = framework()
    inner.mount("/files/{folder:path}/of/{user:int}", below)
    inner.mount("/other", below)
    app = framework()
    app.mount("/", inner)
    assert template(app, "/files/a/b/of/7/x/y") == "/files/{folder}/of/{user}/{path}"


def test_a_prefix_from_outside_stays():
    app = starlette_app()
    assert template(app, "/api/t/1/plain", root_path="/api") == "/api/t/{d}/plain"
    assert template(app, "/api/t/1/x/2/y/3", root_path="/api") == "/api/t/{a}/x/{b}/y/{c}"


def test_routes_of_a_host():
    app = Starlette(routes=[Host("service", Starlette(routes=[Route("/h/{id}", endpoint)]))])
    assert template(app, "/h/7") == "/h/{id}"


def test_two_routes_that_call_the_same():
    app = FastAPI()
    app.add_route("/one/{id}", endpoint)
    app.add_route("/two/{id}", endpoint)
    app.add_route("/two/{id}/more", other_endpoint)
    assert template(app, "/two/7") == "/two/{id}"
    assert template(app, "/two/7/more") == "/two/{id}/more"


@pytest.mark.parametrize(
    "scope",
    [{}, {"route": object()}, {"endpoint": object()}, {"root_path": "/gone", "app_root_path": ""},
     {"route": object(), "root_path": "/gone", "app_root_path": "", "path_params": {"a": "gone"}}],
)  # fmt: skip
def test_a_scope_that_tells_nothing(scope):
    assert template_of(scope, []) is None
