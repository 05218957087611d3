"""What a request costs, in what can be counted: it does not depend on the machine.

The bounds leave a little room. Whoever goes beyond one has made every request dearer, and should know it.
"""

import json
import os
import subprocess
import sys

import pytest
from backend import PREFIX, make_event, raw_redis

from otel_analytics.stream import Producer

REQUESTS = 100
PROGRAM = """
import asyncio, json, sys
from collections import Counter
from pathlib import Path

import otel_analytics
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_analytics import instrument, set_user

ours = str(Path(otel_analytics.__file__).parents[1])
third = str(Path(trace.__file__).parents[3])
calls, spans = Counter(), Counter()

class Spans(SpanProcessor):
    def on_start(self, span, parent_context=None):
        spans[span.kind.name] += 1

def note(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(ours) and not name.startswith(third):
        calls[frame.f_code.co_qualname] += 1

app = FastAPI()

@app.get("/things/{thing}")
async def thing(thing: int):
    set_user(thing)
    return {"x": "y" * 1000}

if sys.argv[1] == "the application's":
    trace.set_tracer_provider(TracerProvider())
    app._telemetry["operation_spans"] = False
inner = FastAPI()
inner.add_api_route("/things/{thing}", thing)
app.mount("/inner", inner)
fields = ("client_address", "user_agent", "referrer", "session_id")
# Nobody is there to take events: they wait.
instrument(app, redis_url="redis://127.0.0.1:1/0", capture_client=fields, hash_key="a secret")

async def receive():
    return {"type": "http.request"}

async def send(message):
    pass

async def ask(number, mount=""):
    scope = {
        "type": "http", "method": "GET", "scheme": "http", "root_path": "",
        "path": f"{mount}/things/{number}",
        "query_string": b"page=%d&sort=asc" % number,
        "headers": [(b"host", b"shop"), (b"user-agent", b"curl")], "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)

async def main(requests):
    for number in range(10):
        await ask(number)
    trace.get_tracer_provider().add_span_processor(Spans())
    sys.setprofile(note)
    for number in range(requests):
        await ask(number)
    sys.setprofile(None)
    for number in range(requests):
        await ask(number, "/inner")

asyncio.run(main(int(sys.argv[2])))
print(json.dumps({"calls": calls, "spans": spans}))
"""
HEAVY = {
    "celery",
    "fastapi",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "redis",
    "rich",
    "typer",
}


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("tracing", "spans", "calls"),
    [("nobody's", {}, 82), ("the application's", {"SERVER": 2 * REQUESTS}, 85)],
)
def test_a_request_is_no_more_spans_than_before_and_so_many_calls_of_our_functions(tracing, spans, calls):
    found = run(PROGRAM, tracing, REQUESTS)
    assert found["spans"] == spans
    by_function = sorted(found["calls"].items(), key=lambda each: -each[1])
    assert sum(found["calls"].values()) / REQUESTS <= calls, by_function


def test_a_batch_is_one_round_trip(redis_url):
    producer = Producer(redis_url, key_prefix=PREFIX, max_entries=1_000)
    producer.add([make_event()], {})
    with raw_redis(redis_url) as client:
        client.config_resetstat()
        for _ in range(3):
            producer.add([make_event() for _ in range(500)], {})
        stats = client.info("commandstats")
        entries = client.xlen(f"{PREFIX}:stream")
    producer.close()
    # The rest of them is called within the script.
    assert stats["cmdstat_eval"]["calls"] == stats["cmdstat_xadd"]["calls"] == 3
    assert entries == 4


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import otel_analytics", set()),
        ("from otel_analytics import instrument", {"opentelemetry"}),
        ("import otel_analytics_exporters.redis_stream", {"opentelemetry", "redis"}),
        ("import otel_analytics.ranking", {"psycopg", "rich"}),
    ],
)
def test_an_import_brings_no_more_than_is_needed(statement, allowed):
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    assert HEAVY & set(run(program)) == allowed
