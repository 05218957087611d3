"""What nobody should put on the stream, with a worker process at the other end and good events around it.

That each kind is refused by the name of its field is in unit/test_record.py, and what becomes of the books in
integration/test_ingest.py.
"""

import json
import time

from backend import raw_redis
from scene import KEYS, Scene, make_event
from waiting import until

from otel_analytics.record import OVERFLOW_PATTERN, encode_events

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"
DEEP = 100_000
TEN_MB = 10_000_000


def entry(events, **fields):
    return {"v": "1", "n": "1", "events": events, **fields}


UNREADABLE = {
    "no events": ({"v": "1", "n": "1"}, "not JSON"),
    "no version": ({"n": "1", "events": "[]"}, "unknown version"),
    "no field of ours": ({"garbage": ESCAPES}, "unknown version"),
    "version 2": (entry("[]", v="2"), "unknown version"),
    "a version of raw bytes": (entry("[]", v=b"\xff"), "unknown version"),
    "half of it": (entry('[["' + ESCAPES), "not JSON"),
    "raw bytes": (entry(b"[\xff\xfe]"), "not JSON"),
    "UTF-16": (entry("[]".encode("utf-16") + b"\0"), "not JSON"),
    "arrays in arrays": (entry("[" * DEEP + "]" * DEEP), "not JSON"),
    "objects in objects": (entry('{"a":' * DEEP + "1" + "}" * DEEP), "not JSON"),
    "a number of 5,000 digits": (entry("[" + "9" * 5_000 + "]"), "not JSON"),
    "10 MB of nothing": (entry(b"\0" * TEN_MB), "not JSON"),
    "an object": (entry("{}"), "not an array of events"),
    "text": (entry('"[]"'), "not an array of events"),
}
"""Entries none of whose events can be read, and the reason that has to stand with them."""
FIELDS = {
    "NUL in text": {"user_id": "a\0b"},
    "a lone surrogate": {"route_full": "/\ud800"},
    "escapes in a name too long": {"user_id": ESCAPES * 100},
    "a size of 2^63": {"response_size_bytes": 2**63},
    "a status of 2^63": {"status_code": 2**63},
    "a duration of NaN": {"duration_ms": float("nan")},
    "an infinite one": {"duration_ms": float("inf")},
    "one below zero": {"duration_ms": -1.0},
    "the year 10000": {"timestamp_us": 253_402_300_800_000_000},
    "the year 1": {"timestamp_us": -62_135_596_800_000_000},
    "a time in seconds": {"timestamp_us": int(time.time())},
    "a route of 9 kB": {"route": "/" + "x" * 9_000},
    "a text of 10 MB": {"route_full": "/" + "x" * TEN_MB},
    "100,000 empty parameters": {"query_params": {"a": [""] * 100_000}},
    "a pattern that is text": {"query_params_normalized": "{}"},
    "a status that is text": {"status_code": "200"},
    "a method that is null": {"method": None},
    "a method that is a list": {"method": ["GET"]},
    "a method of 500 letters": {"method": "M" * 500},
    "a truth for a number": {"db_query_count": True},
}
"""What makes an event one that can never be stored; its reason has to name the field."""
GOOD = {
    "a duration too small to tell from 0": {"duration_ms": 5e-324},
    "the longest route": {"route": "/" + "\N{GRINNING FACE}" * 249},
    "SQL": {"route": "'; DROP TABLE route_analytics; --", "user_id": "%s %(a)s {} \\N \t\n"},
    "escapes": {"route": ESCAPES, "user_agent": ESCAPES},
}
COUNTS = ["", "x", "-1", "1.5", "9" * 30, "\N{ARABIC-INDIC DIGIT ONE}", b"\xff"]
"""Of the events of an entry, in its field `n`."""
DROPS = [
    "{",
    "[]",
    "[" * DEEP,
    '{"a": 1e999, "b": -1, "c": true, "\\u0000": 1}',
    '{"a": ' + "9" * 5_000 + "}",
    b"\xff",
]


def add(here, load, fields, events=(), announced=0):
    """Put an entry on the stream as an application would; `events` have to be stored, or dead, in the end."""
    now = time.time()
    load.offered |= {event.event_id for event in events}
    load.exporter.accepted |= dict.fromkeys((event.event_id for event in events), now)
    with raw_redis(here.redis.url) as client:
        client.hincrby(KEYS.ledger, "accepted", announced)
        client.xadd(KEYS.stream, fields)


def test_whatever_is_on_the_stream_the_good_is_stored_and_the_bad_is_dead(tmp_path):
    with Scene(tmp_path, worker_batch_size=200) as here:
        load = here.load(rate=300)
        worker = here.worker()
        until(lambda: load.exporter.accepted)

        for fields, _ in UNREADABLE.values():
            add(here, load, fields, announced=int(fields.get("n", 0)))
        bad = {what: make_event(0, **fields) for what, fields in FIELDS.items()}
        for event in bad.values():
            among = [make_event(1), event, make_event(2)]
            add(here, load, entry(encode_events(among), n="3"), among, announced=3)
        good = [make_event(0, **fields) for fields in GOOD.values()]
        add(here, load, entry(encode_events(good), n=str(len(good))), good, announced=len(good))
        # A batch that holds an event twice, and once more in another entry.
        twice = make_event(0)
        for copies in (2, 1):
            add(here, load, entry(encode_events([twice] * copies), n=str(copies)), [twice], announced=copies)
        for dropped in DROPS:
            event = make_event(0)
            add(here, load, entry(encode_events([event]), dropped=dropped), [event], announced=1)
        counted_wrong = [make_event(0) for _ in COUNTS]
        for count, event in zip(COUNTS, counted_wrong, strict=True):
            # As a count that cannot be read is none, the books are right where nobody ever counted it.
            add(here, load, entry(encode_events([event]), n=count), [event], announced=1)

        load.stop()
        outcome = here.outcome()
        outcome.check(dead=len(bad))
        assert outcome.dead == {event.event_id for event in bad.values()}
        assert {event.event_id for event in (*good, twice, *counted_wrong)} <= outcome.stored
        assert worker.poll() is None
        log = worker.log.read_text()
        assert "Traceback" not in log
        assert "\x1b" not in log
        assert len(log) < 10_000

        _the_letters_can_be_looked_at(here)
        _a_pattern_too_long_for_a_key_is_folded(here, load)
        assert json.loads(here.run("live", "--format", "json").stdout)
        shown = here.run("live", "--once")
        assert "unreadable" in shown.stdout
        assert_harmless(shown)


def _a_pattern_too_long_for_a_key_is_folded(here, load):
    event = make_event(0, query_params_normalized={"a": "\N{GRINNING FACE}" * 16_000})
    add(here, load, entry(encode_events([event])), [event], announced=1)
    outcome = here.outcome()
    assert event.event_id in outcome.stored
    ((_, _, _, pattern, requests, _, _),) = [each for each in outcome.rollup_differs if len(each[3]) < 1_000]
    assert (json.loads(pattern), requests) == (OVERFLOW_PATTERN, 1)


def _the_letters_can_be_looked_at(here):
    listed = here.run("dlq", "list", "-n", "100")
    assert_harmless(listed)
    assert len(listed.stdout) < 50_000
    reasons = [
        line.split(maxsplit=1)[1] for line in listed.stdout.splitlines() if line.startswith("  reason")
    ]
    assert len(reasons) == len(UNREADABLE) + len(FIELDS)
    for found, (_, expected) in zip(reasons, UNREADABLE.values(), strict=False):
        assert found.startswith(expected)
    for found, fields in zip(reasons[len(UNREADABLE) :], FIELDS.values(), strict=True):
        (name,) = fields
        assert name in found
        assert len(found) < 200
    letters = json.loads(here.run("dlq", "list", "-n", "100", "--format", "json").stdout)
    assert [letter["reason"] for letter in letters] == reasons


def assert_harmless(done):
    assert (done.returncode, done.stderr) == (0, "")
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
