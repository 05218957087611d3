"""The API and the page of metrics, asked by those who may not ask, and for what is not to be had.

Requests that Schemathesis makes up are in integration/test_api.py.
"""

import re
import socket
import threading
import time
from contextlib import contextmanager
from typing import Annotated

import pytest
import uvicorn
from backend import make_settings
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import APIKeyHeader
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from otel_analytics.api import PATHS, analytics_router
from otel_analytics.live.metrics import exposition

KEY = "k\N{LATIN SMALL LETTER E WITH ACUTE}y"
RIGHT_KEY = KEY.encode("latin-1")
"""As it stands in a header."""
ROUTE = b"route=/x"
WRONG_KEYS = {
    "none": None,
    "empty": b"",
    "another": b"secret",
    "part of it": RIGHT_KEY[:2],
    "in UTF-8": KEY.encode(),
    "raw bytes": b"\xff\xfe",
    "very long": b"k" * 60_000,
    "twice": b"x\r\nx-key: y",
}
IMPOSSIBLE = [
    f"{name}={value}"
    for name, values in {
        "n": ("nan", "inf", "-1", "0", "1e3", 10**400, "%00", "%FF", ""),
        "days": ("nan", "inf", "-1", "0", "1e3", 10**400, "%00", "%FF", ""),
        "offset": ("nan", "-1", 2**63, 10**4_000, "%D9%A1x"),
        "min_requests": ("nan", "inf", "-inf", "1e999", "-0.1", 10**400),
        "route": ("", "%00", "a%00b", "x" * 1_001),
        "sort": ("", "'%3B%20DROP%20TABLE%20x", "%00"),
        "ranking": ("", "ABSOLUTE", "%00"),
    }.items()
    for value in values
]
TAKES = {
    "n": ("cache-priorities", "peaks", "patterns", "errors", "slow"),
    "days": ("",),
    "offset": ("peaks", "patterns", "errors", "slow"),
    "min_requests": ("peaks",),
    "route": ("peaks", "week", "patterns", "trends", "users"),
    "sort": ("errors", "slow"),
    "ranking": ("cache-priorities",),
}
"""The ends of the paths that take a parameter."""


def holders_only(
    key: Annotated[str | None, Depends(APIKeyHeader(name="x-key", auto_error=False))] = None,
) -> None:
    if key != KEY:
        raise HTTPException(401, "no such key", {"WWW-Authenticate": "Key"})


@pytest.fixture(scope="module")
def address(_postgres_server, _migrated_template):
    """An application with the closed router, on a database without events."""
    dsn = f"{_postgres_server.rpartition('/')[0]}/{_migrated_template}"
    app = FastAPI()
    app.include_router(
        analytics_router(settings=make_settings(dsn=dsn), dependencies=[Depends(holders_only)]),
        responses={401: {"description": "No such key."}},
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield listening.getsockname()
    server.should_exit = True
    thread.join(20)
    listening.close()


@contextmanager
def ask(address):
    """Sends on one connection, as bytes; gives the status and the whole answer."""
    with socket.create_connection(address, timeout=20) as connection:

        def send(path, query, key=RIGHT_KEY, method=b"GET"):
            header = b"" if key is None else b"x-key: " + key + b"\r\n"
            target = path.encode() + (b"?" + query if query else b"")
            connection.sendall(method + b" " + target + b" HTTP/1.1\r\nhost: api\r\n" + header + b"\r\n")
            answer = b""
            while not (head := re.match(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", answer, re.DOTALL)):
                piece = connection.recv(65_536)
                assert piece, answer
                answer += piece
            length = int(re.search(rb"(?i)content-length: (\d+)", head[0])[1])
            while len(answer) < head.end() + length:
                answer += connection.recv(65_536)
            return int(head[1]), answer

        yield send


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_who_has_no_key_learns_nothing(address, key):
    with ask(address) as send:
        answers = {
            re.sub(rb"date: [^\r]*", b"", send(path, query, WRONG_KEYS[key])[1])
            for path in PATHS
            # Not even which parameters there are, or whether they are right.
            for query in (ROUTE, b"n=nan", b"route=%00")
        }
        assert len(answers) == 1
        assert answers.pop().startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("query", IMPOSSIBLE, ids=lambda query: query[:20])
def test_what_is_not_to_be_had_is_422(address, query):
    name = query.partition("=")[0]
    paths = [path for path in PATHS if path.endswith(TAKES[name])]
    assert paths
    with ask(address) as send:
        for path in paths:
            needed = b"&" + ROUTE if name != "route" and path.endswith(("/patterns", "/trends")) else b""
            status, answer = send(path, query.encode() + needed)
            assert status == 422, (path, answer)


@pytest.mark.parametrize(
    "query",
    [b"route=%FF%FE", b"route=%ED%A0%80", b"route=%25s%27%3B--", b"route=/x&x" + b"[a]" * 10_000 + b"=1",
     b"&".join([b"route=/x"] * 2_000), b"&".join(b"p%d=" % n for n in range(5_000)) + b"&route=/x",
     b"route=%0d%0aset-cookie:%20a=b"],
)  # fmt: skip
def test_odd_but_possible_is_200(address, query):
    with ask(address) as send:
        for path in PATHS:
            status, answer = send(path, query)
            assert status == 200
            assert (
                b"set-cookie"
                not in answer.partition(b"\r\n\r\n")[0].replace(b"\\r\\nset-cookie", b"").lower()
            )


def test_only_reading_is_possible(address):
    with ask(address) as send:
        for path in PATHS:
            for method in (b"POST", b"PUT", b"DELETE", b"FOO"):
                assert send(path, ROUTE, method=method)[0] == 405


pieces = st.sampled_from(
    ["application/openmetrics-text", "text/plain", ";", ",", "version=", "1.0.0", "0.0.4", "9" * 5_000, "q=",
     "escaping=", "allow-utf-8", "values", "\xff", "\r\nx: y"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=40))
def test_metrics_are_served_whatever_is_accepted(accept):
    registry = CollectorRegistry()
    Counter("some", "Thing.", registry=registry)
    body, content_type = exposition(registry, accept)
    assert b"some_total" in body
    assert re.fullmatch(r"(text/plain|application/openmetrics-text)(; [\w-]+=[\w.-]+)*", content_type)
