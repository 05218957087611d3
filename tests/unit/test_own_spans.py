"""The span that is opened in place of FastAPI's."""

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_analytics.capture.own_spans import OwnSpans
from otel_analytics.capture.sources import SpanSource

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = (b"traceparent", f"00-{TRACE}-{CALLER}-01".encode())


def test_it_is_taken_over_again_in_a_forked_process():
    app, inner = FastAPI(), FastAPI()
    app.mount("/inner", inner)
    for each in (app, app, inner):
        assert SpanSource(each).take_over() is not None
        assert not each._native_telemetry.enabled()


@pytest.mark.parametrize("telemetry", [{"tracing": False}, {"tracer_provider": TracerProvider()}])
def test_what_the_application_says_of_its_spans_stays(telemetry):
    app = FastAPI(telemetry=telemetry)
    assert SpanSource(app).take_over() is None
    assert app._telemetry["tracing"] == telemetry.get("tracing", True)


def test_it_is_below_the_caller_and_the_current_one():
    headers = [PARENT, (b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"baggage", b"x=y")]
    span, within = OwnSpans(None).open({"headers": headers})
    assert trace.get_current_span(within) is span
    context = span.get_span_context()
    assert f"{context.trace_id:032x}" == TRACE
    assert f"{context.span_id:016x}" != CALLER
    assert context.is_valid
    assert context.trace_flags.sampled
    assert dict(context.trace_state) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("headers", [[], [(b"traceparent", b"nonsense")], [PARENT, PARENT]])
def test_without_a_caller_it_is_in_no_trace(headers):
    span, _ = OwnSpans(None).open({"headers": headers})
    assert not span.get_span_context().is_valid


def test_it_takes_attributes_until_it_ends():
    span, _ = OwnSpans(None).open({})
    assert span.is_recording()
    span.set_attribute("user.id", "7")
    span.set_attributes({"session.id": "s"})
    span.end()
    assert not span.is_recording()
    assert span.attributes == {"user.id": "7", "session.id": "s"}
