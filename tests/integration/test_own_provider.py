"""An application without a tracer provider is not given away by the one it gets."""

import json
import os
import subprocess
import sys

import pytest
from backend import PREFIX, raw_redis

from otel_analytics.record import decode_events, parse_event

# The provider can be set once in a process.
APPLICATION = """
import asyncio, json, sys
import httpx
from fastapi import FastAPI
from opentelemetry import propagate, trace
from otel_analytics import instrument

app = FastAPI(telemetry={"exclude": lambda scope: scope["path"] == "/excluded"})

@app.get("/excluded")
@app.get("/")
async def root():
    outgoing = {}
    propagate.inject(outgoing)
    return {"outgoing": outgoing, "trace_id": trace.get_current_span().get_span_context().trace_id}

if "instrument" in sys.argv:
    instrument(app)

async def main():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        await client.get("/excluded")
        answers = [(await client.get("/", headers=headers)).json() for headers in json.loads(sys.argv[1])]
    print(json.dumps(answers))

asyncio.run(main())
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
INCOMING = [{}, *({"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flag}"} for flag in ("01", "00"))]


def answers(redis_url, tmp_path, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, json.dumps(INCOMING), *arguments],
        env={**os.environ, "OTEL_ANALYTICS_REDIS_URL": redis_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def with_us(redis_url, tmp_path):
    return answers(redis_url, tmp_path, "instrument")


def test_a_trace_that_begins_here_is_not_passed_on(with_us, redis_url, tmp_path):
    without = answers(redis_url, tmp_path)
    assert with_us[0] == without[0] == {"outgoing": {}, "trace_id": 0}


def test_a_trace_that_came_in_is_passed_on_as_it_was_sampled(with_us):
    passed_on = [each["outgoing"]["traceparent"].split("-") for each in with_us[1:]]
    assert [(trace, flags) for _, trace, _, flags in passed_on] == [(TRACE, "01"), (TRACE, "00")]


def test_events_name_a_trace_where_there_is_one(with_us, redis_url):
    with raw_redis(redis_url) as client:
        entries = client.xrange(f"{PREFIX}:stream")
    events = [parse_event(item) for _, fields in entries for item in decode_events(fields[b"events"])]
    assert len(events) == len(with_us)
    assert [event.trace_id for event in events] == [None, TRACE, TRACE]
    assert [event.span_id is None for event in events] == [True, False, False]
    assert {event.route for event in events} == {"/"}
