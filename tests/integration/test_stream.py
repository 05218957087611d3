import json
import logging
import os
import subprocess
import sys
import time

import pytest
from backend import PREFIX, make_consumer, make_event, produce, raw_redis

from otel_analytics.errors import SettingsError, StreamFull, StreamUnavailable, UnsafeStream
from otel_analytics.record import parse_event
from otel_analytics.stream import DeadLetters, Inspector, NewLetter, Producer
from otel_analytics.stream.connection import Refused

STREAM, DEAD, LEDGER = f"{PREFIX}:stream", f"{PREFIX}:dead", f"{PREFIX}:ledger"


@pytest.fixture
def client(redis_url):
    with raw_redis(redis_url) as client:
        yield client


@pytest.fixture
def inspector(redis_url):
    inspector = Inspector(redis_url, key_prefix=PREFIX)
    yield inspector
    inspector.close()


@pytest.fixture
def dead(redis_url):
    dead = DeadLetters(redis_url, key_prefix=PREFIX)
    yield dead
    dead.close()


@pytest.fixture
def consumer(redis_url):
    consumer = make_consumer(redis_url)
    yield consumer
    consumer.close()


def letter(entry_id: str, reason: str = "bad") -> NewLetter:
    return NewLetter(
        entry_id, reason, "2026-11-24T12:00:00+00:00", {b"v": b"1", b"n": b"1", b"events": b"[[]]"}
    )


def test_an_entry_holds_a_batch_and_the_ledger_counts_it(redis_url, client):
    events = [make_event(), make_event()]
    produce(redis_url, events, dropped={"buffer_full": 3})
    ((_, fields),) = client.xrange(STREAM)
    assert fields[b"v"] == b"1"
    assert fields[b"n"] == b"2"
    assert [parse_event(item) for item in json.loads(fields[b"events"])] == events
    assert json.loads(fields[b"dropped"]) == {"buffer_full": 3}
    epoch = client.hget(LEDGER, "epoch")
    assert len(epoch) == 16
    produce(redis_url, [make_event()], [])
    assert client.hmget(LEDGER, "epoch", "accepted", "forgotten") == [epoch, b"3", None]
    assert client.xlen(STREAM) == 3


def test_a_full_stream_refuses_until_it_is_drained(redis_url, client):
    producer = Producer(redis_url, key_prefix=PREFIX, max_entries=2)
    assert producer.add([make_event()], {}) == 1
    assert producer.add([make_event()], {}) == 2
    with pytest.raises(StreamFull, match="stream_max_entries"):
        producer.add([make_event()], {})
    assert client.xlen(STREAM) == 2
    assert client.hget(LEDGER, "accepted") == b"2"
    client.xtrim(STREAM, maxlen=1, approximate=False)
    assert producer.add([make_event()], {}) == 2
    producer.close()


def test_out_of_memory_says_so_and_shows_no_event(redis_url, client):
    producer = Producer(redis_url, key_prefix=PREFIX, max_entries=10)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StreamUnavailable, match="memory") as error:
            producer.add([make_event(user_id="somebody")], {})
    finally:
        client.config_set("maxmemory", "0")
        producer.close()
    assert "somebody" not in str(error.value)
    assert not client.exists(STREAM, LEDGER)


def test_a_dead_server_is_reported_at_once_and_without_password():
    producer = Producer("redis://:hunter2@127.0.0.1:1/0", key_prefix=PREFIX, max_entries=10)
    began = time.monotonic()
    with pytest.raises(StreamUnavailable) as error:
        producer.add([make_event()], {})
    producer.close()
    assert time.monotonic() - began < 0.5  # the driver alone would retry ten times
    assert "hunter2" not in str(error.value)
    with pytest.raises(SettingsError) as unreadable:
        Producer("redis://:hun/ter2@127.0.0.1:x/0", key_prefix=PREFIX, max_entries=10)
    assert "ter2" not in str(unreadable.value)


def test_a_consumer_reads_what_was_there_before_it(redis_url, consumer):
    produce(redis_url, [make_event()], [make_event(), make_event()])
    delivery = consumer.read(10)
    assert delivery.regrouped
    assert [entry.fields[b"n"] for entry in delivery.entries] == [b"1", b"2"]
    assert delivery.ledger.accepted == 3
    again = consumer.read(10)
    assert not again.entries
    assert not again.regrouped
    assert consumer.ack([entry.id for entry in delivery.entries]) == 2


def test_an_empty_stream_gets_an_epoch_from_its_reader(consumer, client):
    delivery = consumer.read(10)
    assert delivery.regrouped
    assert delivery.ledger.epoch == client.hget(LEDGER, "epoch").decode()


def test_a_read_waits_only_as_long_as_it_is_told(consumer):
    consumer.read(1)
    began = time.monotonic()
    assert not consumer.read(1, 0.2).entries
    assert 0.15 < time.monotonic() - began < 2


def test_entries_of_a_silent_consumer_go_to_another_one(redis_url):
    silent, other = make_consumer(redis_url), make_consumer(redis_url, claim_idle_seconds=0.05)
    produce(redis_url, *([make_event()] for _ in range(7)))
    taken = silent.read(5).entries
    assert len(other.read(10).entries) == 2
    time.sleep(0.1)
    claimed = [*other.read(3).entries, *other.read(3).entries]
    assert {entry.id for entry in claimed} >= {entry.id for entry in taken}
    for consumer in (silent, other):
        consumer.close()


def test_a_pending_entry_that_somebody_deleted_is_forgotten(redis_url, client, caplog):
    reader, other = make_consumer(redis_url), make_consumer(redis_url, claim_idle_seconds=0.01)
    produce(redis_url, [make_event()], [make_event()])
    first, second = reader.read(10).entries
    client.xdel(STREAM, first.id)
    time.sleep(0.05)
    with caplog.at_level(logging.WARNING):
        assert [entry.id for entry in other.read(10).entries] == [second.id]
    assert first.id in caplog.text
    assert client.xpending(STREAM, "otel-analytics")["pending"] == 1
    reader.close()
    other.close()


def test_the_group_comes_back_when_redis_comes_back_empty(redis_url, consumer, client):
    produce(redis_url, [make_event()])
    before = consumer.read(10).ledger.epoch
    client.flushall()
    produce(redis_url, [make_event()])
    delivery = consumer.read(10)
    assert delivery.regrouped
    assert len(delivery.entries) == 1
    assert delivery.ledger.epoch != before


def test_another_answer_than_busygroup_is_an_error(consumer, client):
    client.set(STREAM, "not a stream")
    with pytest.raises(Refused, match="WRONGTYPE"):
        consumer.read(1)


def test_a_leaving_consumer_keeps_its_pending_entries(redis_url, client):
    idle, busy = make_consumer(redis_url), make_consumer(redis_url)
    produce(redis_url, [make_event()])
    busy.read(1)
    idle.read(1)
    idle.close()
    busy.close()
    assert [each["name"].decode() for each in client.xinfo_consumers(STREAM, "otel-analytics")] == [busy.name]
    assert client.xpending(STREAM, "otel-analytics")["pending"] == 1


READ_AND_DIE = """
import os, sys
from otel_analytics.stream import Consumer
consumer = Consumer(sys.argv[1], key_prefix="route_analytics", claim_idle_seconds=3600)
assert consumer.read(10).entries
print(consumer.name)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_entries_of_a_killed_worker_of_this_host_are_taken_over_at_once(redis_url, client):
    produce(redis_url, [make_event()], [make_event()])
    result = subprocess.run(
        [sys.executable, "-c", READ_AND_DIE, redis_url], capture_output=True, text=True, check=False
    )
    assert result.returncode == -9, result.stderr
    consumer = make_consumer(redis_url, claim_idle_seconds=3_600)
    assert not consumer.read(10).entries
    assert consumer.adopt_orphans() == 2
    assert len(consumer.read(10).entries) == 2
    assert [each["name"].decode() for each in client.xinfo_consumers(STREAM, "otel-analytics")] == [
        consumer.name
    ]
    consumer.close()


def test_a_living_worker_keeps_its_entries(redis_url):
    one, other = make_consumer(redis_url), make_consumer(redis_url)
    assert other.adopt_orphans() == 0  # not even a group yet
    produce(redis_url, [make_event()])
    one.read(1)
    assert str(os.getpid()) in one.name
    assert other.adopt_orphans() == 0
    one.close()
    other.close()


def test_trim_takes_only_what_is_old_and_acknowledged(redis_url, client):
    consumer = make_consumer(redis_url)
    assert consumer.trim(0, 1_000).removed == 0  # no stream yet
    produce(redis_url, *([make_event()] for _ in range(6)))
    assert consumer.trim(0, 1_000).removed == 0  # nothing delivered yet
    entries = consumer.read(4).entries
    consumer.ack([entries[0].id, entries[1].id, entries[3].id])
    assert consumer.trim(3_600, 1_000).removed == 0  # too young
    trimmed = consumer.trim(0, 1_000)
    assert trimmed == (2, entries[2].id)  # up to the oldest pending one
    consumer.ack([entries[2].id])
    assert consumer.trim(0, 1_000) == (1, entries[3].id)  # up to the last delivered one
    assert client.xlen(STREAM) == 3
    consumer.close()


def test_trim_makes_room_when_kept_entries_crowd_the_stream(redis_url, client):
    consumer = make_consumer(redis_url)
    produce(redis_url, *([make_event()] for _ in range(10)))
    consumer.ack([entry.id for entry in consumer.read(8).entries])
    consumer.trim(3_600, max_entries=10)
    assert (
        3 <= client.xlen(STREAM) <= 5
    )  # the two undelivered ones, the last delivered, and some of the others
    assert len(consumer.read(10).entries) == 2
    consumer.close()


def test_settling_writes_letters_once_and_acknowledges(redis_url, consumer, client):
    produce(redis_url, [make_event()])
    (entry,) = consumer.read(1).entries
    other = make_consumer(redis_url)
    assert consumer.settle(entry.id, [letter(entry.id), letter(entry.id, "worse")])
    assert not other.settle(entry.id, [letter(entry.id), letter(entry.id, "worse")])
    assert client.xlen(DEAD) == 2
    assert client.xpending(STREAM, "otel-analytics")["pending"] == 0
    other.close()


def test_settling_out_of_memory_does_neither(redis_url, consumer, client):
    produce(redis_url, [make_event()])
    (entry,) = consumer.read(1).entries
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StreamUnavailable):
            consumer.settle(entry.id, [letter(entry.id)])
    finally:
        client.config_set("maxmemory", "0")
    assert client.xlen(DEAD) == 0
    assert client.xpending(STREAM, "otel-analytics")["pending"] == 1


def test_dead_letters_are_listed_replayed_and_purged(redis_url, consumer, client, dead):
    produce(redis_url, [make_event()])
    (entry,) = consumer.read(1).entries
    consumer.settle(entry.id, [letter(entry.id, f"reason {n}") for n in range(5)])
    first, second = dead.page(2)
    assert (first.reason, first.entry, first.events, first.payload) == ("reason 0", entry.id, 1, b"[[]]")
    assert [each.reason for each in dead.page(10, after=second.id)] == ["reason 2", "reason 3", "reason 4"]
    ids = dead.ids()
    assert dead.replay(ids[:2]) == 2
    assert dead.replay(ids[:2]) == 0
    assert dead.purge(ids[1:3]) == 1
    assert dead.ids() == ids[3:]
    assert dead.ids(before_ms=1) == []
    ledger = client.hgetall(LEDGER)
    assert (ledger[b"accepted"], ledger[b"replayed"], ledger[b"purged"]) == (b"1", b"2", b"1")
    _, replayed, _ = client.xrange(STREAM)
    assert replayed[1] == {b"v": b"1", b"n": b"1", b"events": b"[[]]"}


def test_status_counts_what_waits(redis_url, inspector, consumer):
    empty = inspector.status()
    assert (empty.length, empty.undelivered, empty.pending, empty.has_group) == (0, 0, 0, False)
    produce(redis_url, *([make_event()] for _ in range(5)))
    assert inspector.status().undelivered == 5
    entries = consumer.read(3).entries
    consumer.ack([entries[0].id])
    time.sleep(0.05)
    status = inspector.status()
    assert (status.length, status.undelivered, status.pending) == (5, 2, 2)
    assert 0.05 <= status.oldest_unprocessed_seconds < 5
    assert status.has_group
    consumer.ack([each.id for each in [*entries, *consumer.read(10).entries]])
    assert inspector.status().oldest_unprocessed_seconds == 0
    assert abs(inspector.clock() - time.time()) < 5


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_an_evicting_server_is_refused(inspector, client, policy):
    client.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(UnsafeStream, match=policy):
            inspector.ensure_safe()
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_a_server_that_evicts_only_expiring_keys_is_safe(inspector, client):
    client.config_set("maxmemory-policy", "volatile-lru")
    try:
        inspector.ensure_safe()
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_server_info_tells_what_it_can(redis_url, inspector, client):
    info = inspector.server_info()
    assert info.version[0].isdigit()
    assert info.eviction_policy == "noeviction"
    assert info.append_only is False
    assert info.max_memory_bytes == 0
    client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-config", "-info")
    try:
        limited = Inspector(redis_url.replace("redis://", "redis://app:secret@"), key_prefix=PREFIX)
        hidden = limited.server_info()
        limited.ensure_safe()
        limited.close()
    finally:
        client.execute_command("ACL", "DELUSER", "app")
    assert (hidden.eviction_policy, hidden.append_only, hidden.snapshots) == (None, None, None)


def test_entries_kept_for_reading_go_before_redis_is_full(redis_url, consumer, client):
    events = [make_event(route_full="/" + "x" * 5_000)] * 20
    produce(redis_url, *([events] * 20))
    consumer.ack([entry.id for entry in consumer.read(15).entries])
    used = client.info("memory")["used_memory"]
    try:
        client.config_set("maxmemory", used * 2)
        assert consumer.trim(3_600, 1_000).removed == 0
        client.config_set("maxmemory", used // 2)
        # Up to the last delivered one, which is no sooner to be told from one that was not stored.
        assert consumer.trim(3_600, 1_000).removed == 14
    finally:
        client.config_set("maxmemory", "0")
