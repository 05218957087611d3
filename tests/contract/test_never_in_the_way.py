"""Whatever a client sends, the application answers as it does without us, and the request is recorded."""

import pytest

from otel_analytics.record import MAX_PARAMS, MAX_ROUTE_FULL_LENGTH

SOURCES = ("fastapi", "contrib-before", "contrib-after", "starlette", "starlette-middleware", "wrapped")

ODD = {
    "user agent that is no UTF-8": ("/ping", [b"user-agent: \xff"]),
    "user agent that ends in a backslash": ("/ping", [b"user-agent: \xff\\"]),
    "any header that is no UTF-8": ("/ping", [b"x-any: \xff\xfe\\", b"x-session-id: \xff"]),
    "host that is no host": ("/ping", [b"x-forwarded-host: [", b"traceparent: \xff", b"baggage: =;=\xff"]),
    "query with a null character": ("/ping?q=%00&%00=1", []),
    "query that decodes to no UTF-8": ("/ping?q=%FF%FE&%ED%A0%80=%ED%A0%80", []),
    "query with broken escapes": ("/ping?q=%&%zz=%f&=&&==&#", []),
    "10,000 parameters": ("/ping?" + "&".join(["p"] * 10_000), []),
    "10,000 different ones": ("/ping?" + "&".join(f"{n}=" for n in range(10_000)), []),
    "path of 20 kB": ("/files/" + "x" * 20_000, []),
    "path of 20 kB that nobody serves": ("/" + "x/" * 10_000, []),
    "path with a lone surrogate": ("/api/v1/items/%ED%A0%80", []),
    "path with a null character": ("/api/v1/items/%00", []),
    "a mount's parameter that is no UTF-8": ("/tenants/%FF%00/app/things/%ED%A0%80", []),
    "user_of that raises": ("/ping", ["x-user-of: raise"]),
    "user that cannot be printed": ("/ping", ["x-user-of: unprintable"]),
    "user that cannot be printed, by set_user": ("/user-unprintable", []),
    "user name that is no UTF-8": ("/ping", [b"x-user-of: \xff\\"]),
    "cache headers that make no sense": ("/answer?Cache-Status=%2C%3B%22%3D%2C&Age=x&X-Cache=%2C", []),
    "no content": ("/refuse/204", []),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "source", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in SOURCES]
)
def test_odd_requests(servers, source, odd):
    target, headers = ODD[odd]
    server, bare = servers(source), servers(f"bare:{source}")
    errors = server.capture_errors()

    answer, expected = server.get(target, headers=headers), bare.get(target, headers=headers)
    assert (answer.status, answer.body) == (expected.status, expected.body)
    assert without_date(answer) == without_date(expected)

    if source == "wrapped" and answer.status == 500:
        # What stands around the application failed; the request never came to us.
        assert server.drain() == []
        return
    (event,) = server.drain()
    assert event.status_code == answer.status
    assert event.response_size_bytes == len(answer.body)
    assert len(event.query_params) <= MAX_PARAMS
    assert len(event.route_full) <= MAX_ROUTE_FULL_LENGTH
    assert event.route in {
        "/ping", "/answer", "/files/{name}", "/api/v1/items/{id}", "/refuse/{status}", "/user-unprintable",
        "/tenants/{tenant}/app/things/{id}", "(unmatched)",
    }  # fmt: skip
    is_ours_to_count = odd.startswith(("user_of that raises", "user that cannot"))
    assert server.capture_errors() == errors + is_ours_to_count
    if is_ours_to_count:
        assert event.user_id is None


def test_an_instrumentation_that_fails_the_request(servers):
    """That of FastAPI does where it was active before; that there was an error is recorded all the same."""
    server = servers("contrib-before")
    answer = server.ask_untraced("/ping", headers=[b"user-agent: \xff\\"])
    assert answer.status == 500
    assert answer.facts == {
        "route": "(unmatched)",
        "route_full": "/ping",
        "status_code": 500,
        "error_type": "UnicodeDecodeError",
    }
    # Where we switched it on, it fails nothing.
    answer = servers("starlette").ask_untraced("/ping", headers=[b"user-agent: \xff\\"])
    assert answer.facts == {"route": "/ping"}


def without_date(answer):
    return {name: value for name, value in answer.headers.items() if name != "date"}
