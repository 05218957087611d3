"""From spans to events, where there is nothing else to go by."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from otel_analytics.privacy import Privacy
from otel_analytics.record import Event, decode_events, encode_events, parse_event
from otel_analytics.settings import Settings
from otel_analytics_exporters.spans import EVENT_ID_ATTRIBUTE, event_from_span

PRIVATE = Privacy(Settings())
OPEN = Privacy(Settings(capture_client=("client_address", "user_agent", "session_id")))
START = 1_795_000_000_123_456_789
TRACER = TracerProvider().get_tracer("some.instrumentation")

NEW = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "http.route": "/items/{id}",
    "url.path": "/items/7",
    "url.query": "sort=asc&page=2&token=hush",
    "http.request.body.size": 10,
    "http.response.body.size": 20,
    "client.address": "10.0.0.1",
    "user_agent.original": "browser",
}
OLD = {
    "http.method": "GET",
    "http.status_code": 200,
    "http.route": "/items/{id}",
    "http.target": "/items/7?sort=asc&page=2&token=hush",
    "http.request_content_length": 10,
    "http.response_content_length": "20",
    "net.peer.ip": "10.0.0.1",
    "http.user_agent": "browser",
}
OLD_ASGI = OLD | {"http.target": "/items/7", "http.url": "http://service/items/7?sort=asc&page=2&token=hush"}
FULL_URL = {name: value for name, value in NEW.items() if not name.startswith("url.")} | {
    "url.full": "http://user:password@service:80/items/7?sort=asc&page=2&token=hush"
}


def span_of(attributes, *, kind=SpanKind.SERVER, exception=None, milliseconds=12.3456, **more):
    attributes = {name: value for name, value in (attributes | more).items() if value is not None}
    span = TRACER.start_span("GET", kind=kind, attributes=attributes, start_time=START)
    if exception is not None:
        span.record_exception(exception)
    span.end(START + int(milliseconds * 1e6))
    return span


def event_of(attributes, *, privacy=PRIVATE, **options):
    event = event_from_span(span_of(attributes, **options), privacy)
    if event is not None:
        (item,) = decode_events(encode_events([event]))
        assert parse_event(item) == event
    return event


@pytest.mark.parametrize(
    "attributes", [NEW, OLD, OLD_ASGI, FULL_URL], ids=["new", "old", "old asgi", "full url"]
)
def test_old_and_new_names_say_the_same(attributes):
    span = span_of(attributes)
    event = event_from_span(span, OPEN)
    assert event == Event(
        event_id=event.event_id,
        timestamp_us=START // 1_000,
        route="/items/{id}",
        route_full="/items/7?sort=asc&page=2&token=REDACTED",
        method="GET",
        status_code=200,
        duration_ms=12.346,
        query_params={"sort": "asc", "page": "2", "token": "REDACTED"},
        query_params_normalized={"sort": "asc", "token": "REDACTED"},
        request_size_bytes=10,
        response_size_bytes=20,
        trace_id=f"{span.context.trace_id:032x}",
        span_id=f"{span.context.span_id:016x}",
        client_address="10.0.0.1",
        user_agent="browser",
    )


def test_fields_of_the_client_only_where_they_are_switched_on():
    event = event_of(NEW)
    assert (event.client_address, event.user_agent, event.session_id) == (None, None, None)


def test_the_same_span_is_the_same_event():
    span = span_of(NEW)
    one, again = event_from_span(span, PRIVATE), event_from_span(span, PRIVATE)
    assert one == again
    assert event_of(NEW).event_id != one.event_id


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        (NEW, SpanKind.CLIENT),
        (NEW, SpanKind.INTERNAL),
        ({"rpc.system": "grpc"}, SpanKind.SERVER),
        (NEW | {EVENT_ID_ATTRIBUTE: "0" * 32}, SpanKind.SERVER),
    ],
)
def test_other_spans_are_left_out(attributes, kind):
    assert event_of(attributes, kind=kind) is None


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ({"http.route": None}, "route", "(unmatched)"),
        ({"http.request.method": "BREW"}, "method", "_OTHER"),
        ({"http.request.method": "_OTHER"}, "method", "_OTHER"),
        ({"http.response.status_code": None}, "status_code", 500),
        ({"http.response.status_code": 99}, "status_code", 500),
        ({"http.response.status_code": "200"}, "status_code", 500),
        ({"user.id": "ada"}, "user_id", "ada"),
        ({"enduser.id": "ada"}, "user_id", "ada"),
        ({"url.query": None}, "query_params_normalized", {}),
        ({"url.path": None}, "route_full", "/"),
        ({"url.path": None, "url.full": "http://["}, "route_full", "/"),
        ({"http.response.body.size": -1}, "response_size_bytes", None),
        ({"http.response.body.size": "9" * 30}, "response_size_bytes", None),
        ({"http.route": "/" + "é" * 2_000}, "route", "/" + "é" * 499),
        ({"error.type": "ValueError"}, "error_type", "ValueError"),
        ({"http.response.status_code": 503}, "error_type", "503"),
        ({"http.response.status_code": 404}, "error_type", None),
    ],
)
def test_what_a_span_says_or_does_not(more, field, value):
    assert getattr(event_of(NEW, **more), field) == value


def test_an_exception_that_was_recorded_is_the_error():
    event = event_of(NEW | {"http.response.status_code": 500}, exception=LookupError("x"))
    assert event.error_type == "LookupError"


def test_a_clock_that_was_set_back():
    assert event_of(NEW, milliseconds=-5).duration_ms == 0


@pytest.mark.parametrize("attributes", [NEW, OLD], ids=["new", "old"])
def test_a_hidden_user_is_hidden_in_the_address_too(attributes):
    hiding = Privacy(Settings(user_id_hmac=True, hash_key="a key"))
    where = {"url.path": "/items/ada", "url.query": "by=ada", "http.target": "/items/ada?by=ada"}
    event = event_of(attributes | where, privacy=hiding, **{"user.id": "ada"})
    shown = hiding.user("ada")
    assert (event.user_id, event.query_params) == (shown, {"by": shown})
    assert event.route_full == f"/items/{shown}?by={shown}"


def test_a_path_with_a_secret_is_its_template():
    event = event_of(NEW | {"url.path": "/reset/hush", "http.route": "/reset/{token}"})
    assert event.route_full.startswith("/reset/{token}?")
