import datetime as dt
import json
import logging
import threading
import time

import pytest
from backend import (
    DAY,
    HOUR,
    NOW,
    PREFIX,
    make_consumer,
    make_event,
    make_settings,
    produce,
    random_events,
    raw_postgres,
    raw_redis,
    scalar,
    store_connection,
)

from otel_analytics.errors import PoisonedStream, StoreUnavailable, StreamUnavailable
from otel_analytics.ingest import Ingest, Stored
from otel_analytics.ledger import audit
from otel_analytics.record import encode_events
from otel_analytics.store import ledger, partitions
from otel_analytics.store.connection import connect
from otel_analytics.stream import DeadLetters, Inspector

STREAM, DEAD = f"{PREFIX}:stream", f"{PREFIX}:dead"


class Bench:
    """One worker's ingest over real servers, with the figures to check it by."""

    def __init__(self, redis_url, dsn, connection, **settings):
        self.redis_url, self.dsn, self.connection = redis_url, dsn, connection
        self.settings = make_settings(redis_url, dsn, **settings)
        self.consumers = []
        self.consumer, self.ingest = self.another()

    def another(self, *, claim_idle_seconds=60.0, now=NOW):
        consumer = make_consumer(self.redis_url, claim_idle_seconds=claim_idle_seconds)
        self.consumers.append(consumer)
        return consumer, Ingest(consumer, self.settings, lambda: now)

    def drain(self, ingest=None):
        total = Stored()
        ingest = ingest or self.ingest
        while batch := ingest.read():
            total += ingest.store(self.connection, batch)
        return total

    def rows(self):
        return scalar(self.connection, "SELECT count(*) FROM route_analytics")

    def reasons(self):
        dead = DeadLetters(self.redis_url, key_prefix=PREFIX)
        letters = dead.page(1_000)
        dead.close()
        return [letter.reason for letter in letters]

    def audit(self):
        inspector = Inspector(self.redis_url, key_prefix=PREFIX)
        try:
            return audit(inspector, self.connection)
        finally:
            inspector.close()


@pytest.fixture
def bench(redis_url, migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        bench = Bench(redis_url, migrated_dsn, connection)
        yield bench
        for consumer in bench.consumers:
            consumer.close()


def add_raw(redis_url, **fields):
    with raw_redis(redis_url) as client:
        client.hincrby(f"{PREFIX}:ledger", "accepted", int(fields.get("n", 0)))
        return client.xadd(STREAM, fields)


def test_everything_accepted_is_stored(bench):
    events = random_events(250, seed=1)
    produce(bench.redis_url, events[:100], events[100:], dropped={"buffer_full": 2})
    assert bench.drain() == Stored(entries=2, stored=250)
    assert bench.rows() == 250
    report = bench.audit()
    assert report.balanced
    assert (report.accepted, report.stored, report.pending) == (250, 250, 0)
    assert report.drops == {"buffer_full": 4}


def test_what_was_read_ahead_comes_next_and_once(bench):
    bench.settings = make_settings(bench.redis_url, bench.dsn, worker_batch_size=100, export_batch_size=100)
    _, ingest = bench.another()
    events = random_events(250, seed=1)
    produce(bench.redis_url, events[:100], events[100:200], events[200:])
    stored = ingest.store(bench.connection, ingest.read(), read_ahead=True)
    assert ingest.has_read_ahead
    stored += ingest.store(bench.connection, ingest.read(), read_ahead=True)
    stored += ingest.store(bench.connection, ingest.read(), read_ahead=True)
    assert not ingest.has_read_ahead, "a batch that is not full is the last for now"
    assert ingest.read() is None
    assert stored == Stored(entries=3, stored=250)
    report = bench.audit()
    assert (report.stored, report.pending, report.balanced) == (250, 0, True)
    ingest.close()


def test_a_retry_of_the_producer_is_recognised(bench):
    events = random_events(10, seed=1)
    produce(bench.redis_url, events, events)
    assert bench.drain() == Stored(entries=2, stored=10, duplicates=10)
    assert bench.audit().balanced


def test_read_and_never_stored_goes_to_another_worker(bench):
    produce(bench.redis_url, random_events(10, seed=1))
    assert bench.ingest.read() is not None
    assert bench.audit().pending == 10
    _, other = bench.another(claim_idle_seconds=0.001)
    assert bench.drain(other) == Stored(entries=1, stored=10)
    assert bench.audit().balanced


def test_committed_and_not_acknowledged_is_counted_once(bench, monkeypatch):
    bad = make_event(status_code=999)
    produce(bench.redis_url, [*random_events(10, seed=1), bad], random_events(5, seed=2), dropped={"full": 1})
    batch = bench.ingest.read()
    with monkeypatch.context() as patch:
        patch.setattr(bench.ingest, "_acknowledge", lambda *_: None)  # killed right behind the COMMIT
        bench.ingest.store(bench.connection, batch)
    assert bench.reasons() == []
    report = bench.audit()
    assert (report.stored, report.dead, report.pending, report.balanced) == (15, 1, 0, True)

    later = NOW + 60 * DAY  # by now every event is too old, but the entries were judged when they were stored
    _, other = bench.another(claim_idle_seconds=0.001, now=later)
    assert bench.drain(other) == Stored(entries=2)
    assert bench.rows() == 15
    assert len(bench.reasons()) == 1
    report = bench.audit()
    assert (report.stored, report.duplicates, report.dead, report.balanced) == (15, 0, 1, True)
    assert report.drops == {"full": 2}
    with raw_redis(bench.redis_url) as client:
        assert client.xpending(STREAM, "otel-analytics")["pending"] == 0


def test_drops_that_were_reported_twice_are_counted_once(bench):
    """An application that heard no answer sends the same again."""
    produce(bench.redis_url, [make_event()], dropped={"full": 2})
    with raw_redis(bench.redis_url) as client:
        ((_, fields),) = client.xrange(STREAM)
        client.xadd(STREAM, fields)  # into the same batch
        bench.drain()
        client.xadd(STREAM, fields)  # and into a later one
    produce(bench.redis_url, [], dropped={"full": 3})
    bench.drain()
    assert bench.audit().drops == {"full": 5}
    with raw_postgres(bench.dsn) as connection:
        epoch = scalar(connection, "SELECT epoch FROM route_analytics_ledger")
        assert ledger.forget_entries(bench.connection, epoch, "0-0") == 0
        connection.execute(
            "UPDATE route_analytics_stream_entries SET processed_at = now() - interval '25 hours'"
        )
    assert ledger.forget_entries(bench.connection, epoch, "0-0") == 2


def test_two_workers_with_the_same_entry_write_its_letter_once(bench):
    produce(bench.redis_url, [make_event(status_code=999)])
    mine = bench.ingest.read()
    _, other = bench.another(claim_idle_seconds=0.001)
    time.sleep(0.01)
    theirs = other.read()
    assert [entry.id for entry in mine.entries] == [entry.id for entry in theirs.entries]
    assert other.store(bench.connection, theirs) == Stored(entries=1, dead=1)
    assert bench.ingest.store(bench.connection, mine) == Stored(entries=1)
    assert len(bench.reasons()) == 1
    assert bench.audit().balanced


def test_an_entry_claimed_twice_into_one_batch_is_in_it_once(bench):
    produce(bench.redis_url, *([make_event()] for _ in range(30)))
    assert bench.ingest.read() is not None
    _, greedy = bench.another(claim_idle_seconds=0.001)
    time.sleep(0.01)
    batch = greedy.read()
    assert len({entry.id for entry in batch.entries}) == len(batch.entries) == 30


def test_many_workers_at_once_store_everything_once(bench):
    events = random_events(2_000, seed=4)
    produce(bench.redis_url, *(events[start : start + 20] for start in range(0, 2_000, 20)))
    totals, failures = [], []

    def work():
        try:
            _, ingest = bench.another(claim_idle_seconds=0.001)
            with connect(bench.dsn) as connection:
                while batch := ingest.read():
                    totals.append(ingest.store(connection, batch))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(total.stored for total in totals) == 2_000
    assert bench.rows() == 2_000
    assert bench.audit().balanced


def test_the_bad_events_of_an_entry_die_and_the_others_live(bench):
    good = [make_event(), make_event()]
    bad = [
        make_event(status_code=999),
        make_event(NOW - 31 * DAY),
        make_event(NOW + DAY),
        make_event(method="M" * 33),  # only PostgreSQL refuses this one
    ]
    produce(bench.redis_url, [good[0], *bad, good[1]])
    assert bench.drain() == Stored(entries=1, stored=2, dead=4)
    status, old, future, refused = sorted(bench.reasons(), key=lambda reason: "PostgreSQL" in reason)
    assert "status_code" in status
    assert "older than" in old
    assert "future" in future
    assert "refused by PostgreSQL" in refused
    assert bench.audit().balanced


def test_the_edges_of_time_are_stored(bench):
    midnight = dt.datetime(2026, 10, 25, tzinfo=dt.UTC)  # thirty days before the UTC day of NOW
    microsecond = dt.timedelta(microseconds=1)
    edges = [make_event(midnight), make_event(NOW + DAY - microsecond)]
    produce(bench.redis_url, edges, [make_event(midnight - microsecond)])
    assert bench.drain() == Stored(entries=2, stored=2, dead=1)
    assert midnight.date() in partitions.existing_days(bench.connection)


UNREADABLE = [
    ({"v": "2", "n": "3", "events": "[]"}, "version", 3),
    ({"n": "1", "events": "[]"}, "version", 1),
    ({"v": "1", "n": "2", "events": "{"}, "not JSON", 2),
    ({"v": "1", "n": "2", "events": "{}"}, "not an array", 2),
    ({"v": "1", "n": "1"}, "not JSON", 1),
    ({"v": "1", "n": "1", "events": "[1]"}, "not an array of", 1),
    ({"v": "1", "n": "2", "events": b"\xff\xfe"}, "not JSON", 2),
]


@pytest.mark.parametrize(("fields", "reason", "events"), UNREADABLE)
def test_an_unreadable_entry_is_one_letter_and_all_its_events(bench, fields, reason, events):
    add_raw(bench.redis_url, **fields)
    produce(bench.redis_url, [make_event()])
    assert bench.drain() == Stored(entries=2, stored=1, dead=events)
    (found,) = bench.reasons()
    assert reason in found
    report = bench.audit()
    assert report.balanced
    assert report.dead_letters == 1


def test_an_entry_of_somebody_else_leaves_the_books_alone(bench):
    with raw_redis(bench.redis_url) as client:
        client.xadd(STREAM, {"garbage": "1"})
    assert bench.drain() == Stored(entries=1)
    assert len(bench.reasons()) == 1
    assert bench.audit().balanced


def test_events_around_the_producer_show_in_the_books(bench):
    with raw_redis(bench.redis_url) as client:
        client.xadd(STREAM, {"v": "1", "n": "1", "events": encode_events([make_event()])})
    bench.drain()
    assert bench.audit().difference == -1
    with raw_redis(bench.redis_url) as client:
        client.hincrby(f"{PREFIX}:ledger", "accepted", 3)
    assert bench.audit().difference == 2


def test_unreadable_drops_cost_nothing_else(bench):
    for dropped in ("{", "[]", '{"a": -1, "b": "x", "ok": 2, "\\u0000": 1}', '{"a": 1e999}'):
        add_raw(bench.redis_url, v="1", n="1", events=encode_events([make_event()]), dropped=dropped)
    assert bench.drain().stored == 4
    assert bench.audit().drops == {"ok": 2}


def test_a_replay_balances_whether_it_lives_or_dies_again(bench):
    late = make_event(NOW - 31 * DAY)
    produce(bench.redis_url, [late, make_event(status_code=999), make_event()], dropped={"full": 1})
    add_raw(bench.redis_url, v="1", n="2", events="{", dropped='{"full": 1}')
    bench.drain()
    dead = DeadLetters(bench.redis_url, key_prefix=PREFIX)
    assert dead.replay(dead.ids()) == 3
    assert bench.audit().pending == 4
    assert bench.audit().balanced
    longer = make_settings(bench.redis_url, bench.dsn, raw_retention_days=60)
    ingest = Ingest(bench.consumer, longer, lambda: NOW)
    assert bench.drain(ingest) == Stored(entries=3, stored=1, dead=3)
    assert dead.purge(dead.ids()) == 2
    dead.close()
    report = bench.audit()
    assert report.balanced
    assert (report.replayed, report.purged, report.dead, report.stored) == (4, 3, 7, 2)
    assert report.dead_letters == 0
    assert report.drops == {"full": 2}  # a replay does not count them again


def test_poison_in_between_does_not_stop_the_worker(bench):
    bench.settings = make_settings(bench.redis_url, bench.dsn, poison_limit=3)
    _, ingest = bench.another()
    for _ in range(4):
        add_raw(bench.redis_url, v="9")
        add_raw(bench.redis_url, v="9")
        produce(bench.redis_url, [make_event()])
    assert bench.drain(ingest).stored == 4


def test_nothing_but_poison_stops_the_worker(bench):
    bench.settings = make_settings(bench.redis_url, bench.dsn, poison_limit=3, worker_batch_size=2)
    _, ingest = bench.another()
    for _ in range(3):
        add_raw(bench.redis_url, v="9", n="1")
    with pytest.raises(PoisonedStream, match="3 entries in a row"):
        bench.drain(ingest)
    assert len(bench.reasons()) == 3
    assert bench.audit().balanced


def test_a_batch_holds_no_more_than_asked_for(bench):
    bench.settings = make_settings(bench.redis_url, bench.dsn, worker_batch_size=10)
    _, ingest = bench.another()
    produce(bench.redis_url, *([make_event()] for _ in range(25)))
    sizes = []
    while batch := ingest.read():
        sizes.append(len(batch.entries))
        ingest.store(bench.connection, batch)
    assert sizes == [10, 10, 5]


def test_an_outage_of_the_database_is_no_dead_letter(bench):
    produce(bench.redis_url, [make_event()])
    batch = bench.ingest.read()
    with raw_postgres(bench.dsn) as other:
        other.execute(
            "SELECT pg_terminate_backend(%s)", [scalar(bench.connection, "SELECT pg_backend_pid()")]
        )
    with pytest.raises(StoreUnavailable):
        bench.ingest.store(bench.connection, batch)
    assert bench.reasons() == []
    with connect(bench.dsn) as connection:
        assert bench.ingest.store(connection, batch) == Stored(entries=1, stored=1)


def test_an_outage_of_redis_at_the_acknowledgement_changes_no_figure(bench, monkeypatch):
    produce(bench.redis_url, [make_event()])
    batch = bench.ingest.read()

    def unreachable(_ids):
        raise StreamUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(bench.consumer, "ack", unreachable)
        with pytest.raises(StreamUnavailable):
            bench.ingest.store(bench.connection, batch)
    assert bench.ingest.store(bench.connection, batch) == Stored(entries=1)
    assert bench.audit().balanced


def test_the_loss_of_the_stream_is_told_once_and_kept_in_the_books(bench, caplog):
    produce(bench.redis_url, random_events(10, seed=1))
    bench.drain()
    produce(bench.redis_url, random_events(5, seed=2))
    batch = bench.ingest.read()
    with raw_redis(bench.redis_url) as client:
        client.flushall()
    assert batch.ledger.accepted == 15
    # PostgreSQL has seen 10 of them; a worker that had noted the 15 knows of the loss.
    bench.connection.execute("UPDATE route_analytics_ledger SET accepted = 15")
    produce(bench.redis_url, random_events(3, seed=3))
    with caplog.at_level(logging.WARNING):
        assert bench.drain().stored == 3
        _, other = bench.another()
        produce(bench.redis_url, random_events(1, seed=4))
        bench.drain(other)
    assert caplog.text.count("at least 5 events") == 1
    report = bench.audit()
    assert (report.accepted, report.stored, report.lost_in_earlier_epochs) == (4, 4, 5)
    assert report.balanced


def test_a_recreated_group_delivers_again_and_counts_once(bench):
    produce(bench.redis_url, random_events(10, seed=1))
    bench.drain()
    with raw_redis(bench.redis_url) as client:
        client.xgroup_destroy(STREAM, "otel-analytics")
    assert bench.drain() == Stored(entries=1)
    assert bench.audit().balanced


def test_the_letter_holds_the_event_alone(bench):
    bad = make_event(status_code=999, user_id="é")
    produce(bench.redis_url, [make_event(), bad])
    bench.drain()
    dead = DeadLetters(bench.redis_url, key_prefix=PREFIX)
    (letter,) = dead.page(10)
    dead.close()
    assert json.loads(letter.payload) == [list(bad)]
    assert letter.at.startswith("2026-11-24T12:30:00")
    with raw_redis(bench.redis_url) as client:
        ((first_id, _),) = client.xrange(STREAM)
    assert letter.entry == first_id.decode()


def test_late_events_mark_their_hour_again(bench):
    produce(bench.redis_url, [make_event(NOW - 5 * HOUR)])
    bench.drain()
    bench.connection.execute("DELETE FROM route_analytics_touched_hours")
    produce(bench.redis_url, [make_event(NOW - 5 * HOUR)])
    bench.drain()
    assert scalar(bench.connection, "SELECT count(*) FROM route_analytics_touched_hours") == 1
