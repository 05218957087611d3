"""What no example thinks of: made-up input for the doors of the codec, of parameters and of spans.

`make fuzz` runs the same doors against input that a fuzzer steers by what it reaches in the code.
"""

import contextlib
import json
from types import SimpleNamespace
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from otel_analytics.errors import InvalidEvent
from otel_analytics.params import ParamRules
from otel_analytics.privacy import Privacy
from otel_analytics.record import MAX_ROUTE_FULL_LENGTH, Event, decode_events, encode_events, parse_event
from otel_analytics.settings import Settings
from otel_analytics_exporters.spans import event_from_span

SECRET = "Zq9xSeCrEt9qZ"
RULES = ParamRules(redacted=["ssn"])
PRIVACY = Privacy(Settings(capture_client=("client_address", "user_agent", "referrer", "session_id")))

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
likely = st.lists(
    anything
    | st.sampled_from(["0" * 32, "a" * 16, "/x", "GET", 200, 1_790_000_000_000_000, 1.5, {}, {"a": ["b"]}]),
    min_size=len(Event._fields),
    max_size=len(Event._fields),
)


@given(likely | anything)
def test_what_is_no_event_is_refused_in_one_way_only(item):
    with contextlib.suppress(InvalidEvent):
        event = parse_event(item)
        assert [parse_event(each) for each in decode_events(encode_events([event]))] == [event]


@given(st.binary(max_size=300) | st.text(max_size=300) | anything.map(json.dumps))
def test_what_is_no_payload_is_refused_in_one_way_only(payload):
    with contextlib.suppress(InvalidEvent):
        for item in decode_events(payload):
            with contextlib.suppress(InvalidEvent):
                parse_event(item)


# --- parameters


@st.composite
def spelled_in_any_case(draw):
    name = draw(
        st.sampled_from(
            ["token", "api_key", "apikey", "password", "pwd", "sig", "X-Amz-Signature", "jwt", "auth", "ssn"]
        )
    )
    return "".join(each.upper() if draw(st.booleans()) else each.lower() for each in name)


def every_byte(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


ENCODINGS = (quote_plus, every_byte, lambda text: quote(text, safe=""))


@st.composite
def queries_with_a_secret(draw):
    """`name=secret`, encoded so many times, in a parameter of its own or within the value of another."""
    around = st.text("abc/?=&;#:%+ é", max_size=8)
    name, encode = draw(spelled_in_any_case()), draw(st.sampled_from(ENCODINGS))
    value = draw(st.sampled_from([SECRET, f"Bearer {SECRET}", f"{SECRET}=="]))
    if draw(st.booleans()):
        times = draw(st.integers(0, 2))
        for _ in range(times):
            name = encode(name)
        pair = f"{name}={quote_plus(value)}"
    else:
        inner = draw(
            st.sampled_from(
                [
                    f"{name}={value}",
                    f"https://bob:{SECRET}@h.example/",
                    f"/back?x=1&{name}={value}",
                    f"x; {name}={value}",
                    f"/#{name}={value}",
                    f"https://a:b@h/?u={quote(f'/?{name}={value}')}",
                ]
            )
        )
        for _ in range(draw(st.integers(1, 8))):
            inner = encode(inner)
        pair = draw(st.sampled_from(["", f"{draw(st.text('uxq', min_size=1))}="])) + inner
    separators = st.sampled_from(["&", "&&", "&+", ";", ";+"])
    return f"{draw(around)}{draw(separators)}{pair}{draw(st.sampled_from(['', '&', '&z=1', '#']))}"


@given(queries_with_a_secret())
@example(f"x=%{'25' * 20}3Ftoken%{'25' * 20}3D{SECRET}")
@example("x=" + quote(f"https://bob:{SECRET * 20}@h/"))
def test_a_secret_survives_in_no_spelling(query):
    params, pattern = RULES.read(query)
    for kept in (params, pattern, RULES.redact("/", query), RULES.redact(f"/a/{query}", "")):
        assert "SeCrEt" not in str(kept).replace("%53", "S").replace("%72", "r")


@given(queries_with_a_secret() | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_redacting_again_changes_nothing(query):
    pattern = RULES.read(query)[1]
    pairs = [
        (name, each)
        for name, value in pattern.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    assert RULES.read(urlencode(pairs))[1] == pattern
    shown = RULES.redact("/", query)
    if len(shown) < MAX_ROUTE_FULL_LENGTH:
        assert RULES.redact("/", shown.partition("?")[2]) == shown


@pytest.mark.timeout(10)
@pytest.mark.parametrize("times", [40, 300, 10_000])
def test_encoding_again_and_again_takes_no_more_time(times):
    query = f"x=%{'25' * times}3Ftoken%{'25' * times}3D{SECRET}"
    assert SECRET not in str(RULES.read(query)) + RULES.redact(f"/{query}", query)


# --- spans


attributes = st.dictionaries(
    st.sampled_from(
        [
            "http.request.method", "http.method", "http.response.status_code",
            "http.status_code", "http.route", "url.path", "url.query", "url.full", "http.target", "http.url",
            "user.id", "error.type",
            "http.request.body.size", "http.request_content_length", "http.response.body.size",
            "client.address", "user_agent.original", "session.id",
        ]
    ),
    scalars | st.sampled_from(["GET", "http://[::1", "9" * 5_000, 2**63, -1, "/a?token=b", ("a", "b")]),
)  # fmt: skip


@given(attributes, st.integers(946_684_800 * 10**9, 4_102_444_800 * 10**9), st.integers(0, 10**12))
def test_whatever_an_instrumentation_notes_its_event_can_be_stored(noted, start, took):
    span = SimpleNamespace(
        attributes=noted,
        kind=SpanKind.SERVER,
        start_time=start,
        end_time=start + took,
        events=(),
        context=None,
    )
    event = event_from_span(span, PRIVACY)
    if event is not None:
        (item,) = decode_events(encode_events([event]))
        assert parse_event(item) == event
