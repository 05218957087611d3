"""The user's own tracing: it goes on as before, while every request is seen here."""

import json
import os

import pytest

OURS = "otel_analytics.event_id"
TARGETS = ("/ping", "/api/v1/items/7?q=x", "/tenants/acme/app/things/7", "/nothing", "/boom", "/stream",
           "/background", "/queries/asyncpg?n=2", "/queries/sqlalchemy?n=1")  # fmt: skip


@pytest.mark.parametrize("source", ["fastapi-ratio", "fastapi-late", "contrib-before"])
def test_a_sampler_that_drops_everything_still_does(servers, source):
    server = servers(source)
    server.spans()
    for target in TARGETS:
        server.ask(target)
    server.control("release")
    assert server.spans() == []


@pytest.mark.parametrize("source", ["fastapi-lifespan", "contrib-after"])
def test_a_sample_stays_the_same_sample(servers, source):
    """Half of the requests; which ones, their trace ids say."""
    server = servers(source)
    server.spans()
    events = [server.ask("/ping").event for _ in range(60)]
    lowest_64_bits = [int(event.trace_id, 16) & (2**64 - 1) for event in events]
    expected = {event.trace_id for event, bits in zip(events, lowest_64_bits, strict=True) if bits < 2**63}
    assert 5 < len(expected) < 55
    sampled = {span["context"]["trace_id"].removeprefix("0x") for span in server.spans()}
    assert sampled == expected


def test_a_caller_that_samples_is_obeyed(servers):
    """And so is one that does not."""
    server = servers("fastapi-lifespan")
    server.spans()
    for flag, number in (("01", 1), ("00", 0)):
        trace_id = os.urandom(16).hex()
        answer = server.ask("/ping", headers=[f"traceparent: 00-{trace_id}-00f067aa0ba902b7-{flag}"])
        assert answer.event.trace_id == trace_id
        spans = [span for span in server.spans() if span["kind"] == "SpanKind.SERVER"]
        assert [span["context"]["trace_id"] for span in spans] == [f"0x{trace_id}"] * number


@pytest.mark.parametrize("source", ["fastapi-telemetry", "contrib-global", "starlette-middleware", "wrapped"])
def test_the_exporter_gets_what_it_got_before(servers, source):
    """The same spans with the same attributes, for the same requests; but for one attribute of ours."""
    told = []
    for name in (source, f"bare:{source}"):
        server = servers(name)
        server.get("/queries/asyncpg?n=0"), server.get("/queries/sqlalchemy?n=0")
        server.spans()
        shapes = []
        for target in TARGETS:
            server.get(target, headers=["user-agent: browser"])
            server.control("release")
            shapes.append((target, [shape_of(span, server) for span in server.spans()]))
        told.append(shapes)
        if name == source:
            server.drain()
    with_us, without_us = told
    assert with_us == without_us
    assert all(shapes for _, shapes in with_us)


def shape_of(span, server):
    attributes = {name: value for name, value in span["attributes"].items() if name != OURS}
    for name in ("net.peer.port", "client.port"):
        attributes.pop(name, None)
    text = json.dumps([span["scope"], span["name"], span["kind"], span["status"], attributes], sort_keys=True)
    events = [event["name"] for event in span["events"]]
    return text.replace(str(server.address[1]), "PORT"), events


def test_an_application_instrumented_twice_and_one_within_another(serve):
    """One event a request, and it is the outer one's."""
    for source in ("fastapi", "starlette"):
        server = serve(source, environ={"INSTRUMENT_INNER": "yes"})
        answer = server.ask("/inner/things/7")
        assert answer.facts == {"route": "/inner/things/{id}", "route_full": "/inner/things/7"}
        assert server.drain() == []
        assert b"is instrumented already" in server.log.read_bytes()
        assert server.get("/inner/metrics").status == 200
