"""The doors of the codec, of parameters and of spans under a fuzzer that steers input by what it reaches.

`make fuzz` runs it: `python fuzz.py <door> [options of libFuzzer, such as -max_total_time=60]`. What raises,
takes longer than `-timeout` or needs more memory than `-rss_limit_mb` ends it, and it prints the name of a
file with the input.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import atheris
from opentelemetry.trace import SpanKind

with atheris.instrument_imports(include=["otel_analytics", "otel_analytics_exporters"]):
    from otel_analytics.errors import InvalidEvent
    from otel_analytics.ingest import Window, judge
    from otel_analytics.params import ParamRules
    from otel_analytics.privacy import Privacy
    from otel_analytics.record import Event, decode_events, encode_events, parse_event
    from otel_analytics.settings import Settings
    from otel_analytics.stream import Entry
    from otel_analytics_exporters.spans import event_from_span

RULES = ParamRules(redacted=["ssn"])
PRIVACY = Privacy(Settings(capture_client=("client_address", "user_agent", "referrer", "session_id")))
WINDOW = Window(0, 2**62)
EVENT = Event("0" * 32, 1_790_000_000_000_000, "/a", "/a?b=c", "GET", 200, 1.5, trace_id="a" * 32)
SECRET = "Zq9xSeCrEt9qZ"


def json_or(text):
    """What the text says as JSON, or else itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def codec(data):
    """Whatever stands in place of a field, it is refused, or the event comes back as it was."""
    place, text = data[:1], data[1:].decode(errors="replace")
    item = list(EVENT)
    item[ord(place or b"\0") % len(item)] = json_or(text)
    with contextlib.suppress(InvalidEvent):
        event = parse_event(item)
        assert [parse_event(each) for each in decode_events(encode_events([event]))] == [event]


def entry(data):
    """Whatever the fields of an entry are, it is sorted into good and dead."""
    fields = dict(zip(("v", "n", "events", "dropped"), data.split(b"\xff"), strict=False))
    judged = judge(Entry.of("1-0", {name.encode(): value for name, value in fields.items()}), WINDOW)
    assert all(isinstance(reason, str) for _, reason in judged.dead)


def params(data):
    """What is kept of a query reads as itself, and a secret in it never shows."""
    text = data.decode("latin-1")
    pattern = RULES.read(text)[1]
    pairs = [
        (name, each)
        for name, value in pattern.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    assert RULES.read(urlencode(pairs))[1] == pattern
    query = f"{text}&token={SECRET}&u=/%3FpassWord%3D{SECRET}"
    assert SECRET not in str(RULES.read(query)) + RULES.redact(text, query)


def span(data):
    """Whatever a span says of a request, its event can be stored."""
    noted = json_or(data.decode("latin-1"))
    if not isinstance(noted, dict):
        noted = dict.fromkeys(("http.request.method", "url.path", "url.query", "http.route"), noted)
    times = {"start_time": 1_790_000_000 * 10**9, "end_time": 1_790_000_001 * 10**9}
    given = SimpleNamespace(attributes=noted, kind=SpanKind.SERVER, events=(), context=None, **times)
    event = event_from_span(given, PRIVACY)
    if event is not None:
        (item,) = decode_events(encode_events([event]))
        assert parse_event(item) == event


DOORS = {each.__name__: each for each in (codec, entry, params, span)}
SEEDS = {
    "codec": [
        b"\1" + b"1790000000000000",
        b'\x0a{"a":["b"]}',
        b"\6" + b"1e3",
        b"\x10-1",
        b"\2/a",
        b"\x12null",
    ],
    "entry": [b'1\xff1\xff[]\xff{"a":1}'],
    "params": [b"a=1&b=%20", b"u=https%3A%2F%2Fa%3Ab%40c%2F%3Fsig%3D1", b";a=%2525&&=#"],
    "span": [
        b'{"http.request.method":"GET","url.path":"/a","url.query":"b=1","http.response.status_code":200}'
    ],
}


def main():
    door, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[door]):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], DOORS[door])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
