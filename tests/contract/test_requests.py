"""What the event of a request says, whichever source its span comes from."""

import gzip
import time

import pytest
from capture_sources import WITHOUT_PROVIDER, read_answer

UNMATCHED = "(unmatched)"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/ping", "/ping"),
        ("/api/v1/items/7", "/api/v1/items/{id}"),
        ("/api/v1/items", "/api/v1/items"),
        ("/sub/things/7", "/sub/things/{id}"),
        ("/sub/deep/things/7", "/sub/deep/things/{id}"),
        ("/tenants/acme/app/things/7", "/tenants/{tenant}/app/things/{id}"),
        # A value that is also a part of the path, or the value of another parameter.
        ("/tenants/app/app/things/app", "/tenants/{tenant}/app/things/{id}"),
        ("/tenants/tenants/app/things/things", "/tenants/{tenant}/app/things/{id}"),
        ("/tenants/7/app/things/7", "/tenants/{tenant}/app/things/{id}"),
        ("/tenants/acme/app/", "/tenants/{tenant}/app/"),
        ("/tenants/%C3%A9%20%2B/app/things/%E2%82%AC", "/tenants/{tenant}/app/things/{id}"),
        ("/api/regions/regions/things/7", "/api/regions/{region}/things/{id}"),
        # Routes of Starlette's own kind, of which FastAPI says less.
        ("/plain/7", "/plain/{id}"),
        ("/sub/plain/7", "/sub/plain/{id}"),
        ("/api/plain/7", "/api/plain/{id}"),
        ("/files/a/b/c.txt", "/files/{name}"),
        ("/static/capture_app.py", "/static/{path}"),
    ],
)
def test_the_route_is_the_template_with_every_prefix(server, target, route):
    answer = server.ask(target)
    assert answer.status == 200
    expected = {"route": route, "route_full": target}
    assert answer.facts == (expected if target != route else {"route": route})


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/nothing/here/7", UNMATCHED),
        ("/nothing%00%0a", UNMATCHED),
        ("/static/nothing.txt", "/static/{path}"),
        ("/sub/nothing/7", "/sub/{path}"),
        ("/tenants/acme/app/nothing", "/tenants/{tenant}/app/{path}"),
    ],
)
def test_not_found(server, target, route):
    assert server.ask(target).facts == {"route": route, "route_full": target, "status_code": 404}


def test_method_not_allowed(server):
    answer = server.ask("/api/v1/items/7", method="DELETE")
    assert answer.facts == {
        "route": "/api/v1/items/{id}",
        "route_full": "/api/v1/items/7",
        "method": "DELETE",
        "status_code": 405,
    }


def test_an_unknown_method(server):
    assert server.ask("/ping", method="BREW").facts == {
        "route": "/ping",
        "method": "_OTHER",
        "status_code": 405,
    }


def test_validation_fails(server):
    answer = server.ask("/typed/seven")
    assert answer.facts == {"route": "/typed/{number}", "route_full": "/typed/seven", "status_code": 422}


@pytest.mark.parametrize("status", [404, 418, 503])
def test_http_exception(server, status):
    assert server.ask(f"/refuse/{status}").facts == {
        "route": "/refuse/{status}",
        "route_full": f"/refuse/{status}",
        "status_code": status,
        **({"error_type": "503"} if status == 503 else {}),
    }


def test_an_exception_that_nobody_handles(server):
    answer = server.ask("/boom")
    assert answer.body == b"handled"
    assert answer.facts == {
        "route": "/boom",
        "status_code": 500,
        "error_type": "__main__.UnforeseenError",
    }


def test_an_exception_with_a_handler_of_its_own(server):
    assert server.ask("/teapot").facts == {"route": "/teapot", "status_code": 418}


def test_an_exception_after_the_response_has_begun(server):
    with server.connect() as connection:
        server.send(connection, "/boom-late")
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    event = server.next_event()
    # Middleware that runs the application in a task completes the response before it passes the exception on.
    complete = received.endswith(b"first\r\n0\r\n\r\n")
    assert complete or received.endswith(b"first\r\n")
    assert (event.status_code, event.error_type) == (200, None if complete else "__main__.UnforeseenError")
    assert (event.route, event.response_size_bytes) == ("/boom-late", 5)


def test_a_slash_too_many_is_redirected(server):
    answer = server.ask("/ping/")
    assert answer.status == 307
    assert answer.facts == {"route": UNMATCHED, "route_full": "/ping/", "status_code": 307}


def test_head(server):
    answer = server.ask("/sized/a", method="HEAD")
    assert answer.headers["content-length"] == "1000"
    assert answer.facts == {"route": "/sized/{letter}", "route_full": "/sized/a", "method": "HEAD"}
    assert answer.event.response_hash == server.ask("/sized/a").event.response_hash


def test_parameters(server):
    target = (
        "/ping?tag=b&tag=a&empty=&bare&q=caf%C3%A9+%F0%9F%98%80&page=3&limit=10&offset=5&cursor=x&sort=asc"
    )
    params = {
        "tag": ["b", "a"], "empty": "", "bare": "", "q": "café 😀", "page": "3", "limit": "10", "offset": "5",
        "cursor": "x", "sort": "asc",
    }  # fmt: skip
    answer = server.ask(target)
    assert answer.facts == {
        "route": "/ping",
        "route_full": target,
        "query_params": params,
        "query_params_normalized": {
            "bare": "",
            "empty": "",
            "q": "café 😀",
            "sort": "asc",
            "tag": ["b", "a"],
        },
    }
    assert list(answer.event.query_params_normalized) == ["bare", "empty", "q", "sort", "tag"]


def test_the_order_of_parameters_does_not_matter(server):
    one, other = (server.ask(f"/ping?{query}").event for query in ("b=1&a=2&page=1", "page=7&a=2&b=1"))
    assert list(one.query_params_normalized.items()) == list(other.query_params_normalized.items())


def test_values_of_secrets_are_not_stored(server):
    answer = server.ask("/ping?api_key=hush&X-Amz-Signature=hush&access%54oken=hush&q=x")
    assert answer.facts["query_params"] == {
        "api_key": "REDACTED",
        "X-Amz-Signature": "REDACTED",
        "accessToken": "REDACTED",
        "q": "x",
    }
    assert "hush" not in str(answer.event)


def test_a_request_body_in_pieces(server):
    with server.connect() as connection:
        server.send(connection, "/echo", method="POST", headers=["transfer-encoding: chunked"])
        for piece in (b"a" * 10, b"b" * 2_000, b"c"):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(0.005)
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).body == b"2011"
    event = server.next_event()
    assert (event.request_size_bytes, event.method, event.response_hash) == (2_011, "POST", None)


def test_a_request_body_of_known_length(server):
    answer = server.ask("/echo", method="POST", body=b"x" * 70_000)
    assert answer.body == b"70000"
    assert answer.facts == {"route": "/echo", "method": "POST", "request_size_bytes": 70_000}


def test_a_request_body_that_the_application_does_not_read(server):
    answer = server.ask("/unread", method="POST", body=b"x" * 100)
    assert answer.facts == {"route": "/unread", "method": "POST", "status_code": 201}


def test_a_stream(server):
    answer = server.ask("/stream")
    assert answer.body == b"piecepiecepiece"
    assert answer.facts == {"route": "/stream"}


def test_the_first_byte_of_an_event_stream_comes_long_before_the_last(server):
    event = server.ask("/sse").event
    assert event.duration_ms - event.ttfb_ms >= 290


def test_a_compressed_body_counts_as_it_was_sent(server):
    plain = server.ask("/sized/z")
    answer = server.ask("/sized/z", headers=["accept-encoding: gzip"])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == plain.body
    assert len(answer.body) < 100
    assert answer.facts == plain.facts


def test_background_tasks_are_not_included(server):
    before = len(server.control("state")["finished"])
    answer = server.ask("/background?n=1")
    # Nor what they say, and what they do to the request.
    assert answer.facts == {
        "route": "/background",
        "route_full": "/background?n=1",
        "query_params": {"n": "1"},
        "query_params_normalized": {"n": "1"},
    }
    assert len(server.control("state")["finished"]) == before
    server.control("release")
    server.wait_until(lambda state: len(state["finished"]) == before + 1)


def test_the_client_leaves_before_the_response_begins(server):
    with server.connect() as connection:
        server.send(connection, "/hang")
        server.wait_until(lambda state: "hang" in state["waiting"])
    time.sleep(0.02)
    server.control("release")
    event = server.next_event()
    assert (event.route, event.status_code, event.error_type) == ("/hang", 499, None)


def test_the_client_leaves_in_mid_stream(server):
    with server.connect() as connection:
        server.send(connection, "/hang-late")
        assert b"200 OK" in connection.recv(65_536)
        server.wait_until(lambda state: "hang_late" in state["waiting"])
    time.sleep(0.02)
    server.control("release")
    event = server.next_event()
    assert (event.route, event.status_code, event.error_type) == ("/hang-late", 499, None)
    assert event.response_hash is None or event.response_size_bytes == 5


def receive_until(connection, enough):
    received = b""
    while not enough(received):
        received += connection.recv(65_536)


def test_requests_on_one_connection_are_kept_apart(server):
    """The server reads one while it serves another, so that it begins in the context of that one."""
    with server.connect() as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nhost: service\r\ncontent-length: 200000\r\n\r\n"
            + bytes(200_000)
            + b"GET /ping?number=2 HTTP/1.1\r\nhost: service\r\n\r\n" * 2
        )
        receive_until(connection, lambda received: received.count(b"pong") == 2)
        time.sleep(0.02)
        connection.sendall(b"GET /ping?number=3 HTTP/1.1\r\nhost: service\r\n\r\n")
        receive_until(connection, lambda received: received.endswith(b"pong"))
    events = [server.next_event() for _ in range(4)]
    assert [each.route_full for each in events] == ["/echo", *["/ping?number=2"] * 2, "/ping?number=3"]
    assert [each.request_size_bytes for each in events] == [200_000, 0, 0, 0]
    if server.source not in WITHOUT_PROVIDER:
        assert len({each.span_id for each in events}) == 4
        assert len({each.trace_id for each in events}) == 4
    assert sorted(each.timestamp_us for each in events) == [each.timestamp_us for each in events]
    assert events[3].timestamp_us - events[2].timestamp_us > 20_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Cache-Status=Origin;hit,%20Edge;fwd=uri-miss", "miss"),
        ("Cache-Status=Edge;hit&X-Cache=MISS", "hit"),
        ("X-FastAPI-Cache=HIT", "hit"),
        ("X-Cache=Miss%20from%20cloudfront", "miss"),
        ("CF-Cache-Status=DYNAMIC", "dynamic"),
        ("Age=60", "hit"),
        ("X-Cache=who+knows", None),
        ("ETag=1", None),
    ],
)
def test_cache_status_of_the_response(server, headers, status):
    assert server.ask(f"/answer?{headers}").event.cache_status == status


def test_cache_status_said_by_the_application(server):
    assert server.ask("/cache-status/Stale").event.cache_status == "stale"


@pytest.mark.parametrize(
    ("target", "headers", "user"),
    [
        ("/user-async/ada", [], "ada"),
        ("/user-sync/bob", [], "bob"),
        ("/ping", ["x-user-of: cleo"], "cleo"),
        ("/ping", ["x-user-on-span: user.id"], "on-span"),
        ("/ping", ["x-user-on-span: enduser.id"], "on-span"),
        ("/ping", ["x-signed-in: dora"], "dora"),
        ("/user-async/ada", ["x-user-of: cleo", "x-signed-in: dora"], "ada"),
        ("/ping", ["x-user-on-span: user.id", "x-user-of: cleo", "x-signed-in: dora"], "cleo"),
        ("/ping", ["x-user-on-span: user.id", "x-signed-in: dora"], "on-span"),
        ("/ping", [], None),
    ],
)
def test_who_the_user_is(server, target, headers, user):
    assert server.ask(target, headers=headers).event.user_id == user


@pytest.mark.parametrize("attribute", ["user.id", "enduser.id"])
def test_a_user_that_an_endpoint_notes_on_the_present_span(server, attribute):
    # That span is FastAPI's own of the endpoint, where one is recorded. Dropped ones hold no attributes.
    dropped = server.source in ("fastapi-ratio", "fastapi-late", "fastapi-lifespan")
    user = server.ask(f"/user-on-span/{attribute}").event.user_id
    assert user == "on-span" or (dropped and user is None)


def test_nothing_of_the_client_is_stored(server):
    headers = [
        "user-agent: browser",
        "referer: elsewhere",
        "x-session-id: s1",
        "cookie: c=1",
        "authorization: a",
    ]
    assert server.ask("/ping", headers=headers).facts == {"route": "/ping"}


def test_metrics_are_served_and_not_recorded(server):
    server.ask("/api/v1/items/1")
    answer = server.get("/metrics")
    assert answer.status == 200
    assert b'http_route="/api/v1/items/{id}"' in answer.body


def test_the_same_body_has_the_same_hash(server, hashes):
    """In every process with the same settings, and another body has another."""
    a, b = (server.ask(f"/sized/{letter}").event.response_hash for letter in "ab")
    assert a != b
    assert hashes.setdefault("a", a) == a
    assert hashes.setdefault("b", b) == b
    with_gzip = ["accept-encoding: gzip"]
    compressed = server.ask("/sized/a", headers=with_gzip).event.response_hash
    assert compressed == server.ask("/sized/a", headers=with_gzip).event.response_hash
