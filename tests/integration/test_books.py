"""The count of accepted events, where Redis forgets; what really makes it forget is in tests/faults."""

import pytest
from backend import (
    PREFIX,
    make_consumer,
    make_event,
    make_settings,
    make_worker,
    raw_redis,
    store_connection,
)

from otel_analytics.errors import StreamUnavailable
from otel_analytics.ledger import audit
from otel_analytics.store import ledger
from otel_analytics.store.ledger import LedgerRow
from otel_analytics.stream import Heard, Inspector, Producer

STREAM, LEDGER = f"{PREFIX}:stream", f"{PREFIX}:ledger"


@pytest.fixture
def client(redis_url):
    with raw_redis(redis_url) as client:
        yield client


@pytest.fixture
def applications(redis_url):
    made = [Producer(redis_url, key_prefix=PREFIX, max_entries=1_000) for _ in range(2)]
    yield made
    for each in made:
        each.close()


@pytest.fixture
def consumer(redis_url):
    consumer = make_consumer(redis_url)
    yield consumer
    consumer.close()


def come_back(client, *, without):
    """As another run of the server that lacks the last events."""
    client.hset(LEDGER, "run", "another")
    client.hincrby(LEDGER, "accepted", -without)


def test_what_the_server_forgot_is_counted_whoever_tells_first_and_however_often(
    client, applications, consumer
):
    first, last = applications
    first.add([make_event()] * 40, {})
    last.add([make_event()] * 30, {})
    heard = consumer.read(10).ledger.heard
    assert heard.events == 70
    come_back(client, without=50)
    for _ in range(2):
        first.add([make_event()] * 7, {})
        last.add([make_event()] * 5, {})
        assert consumer.tell(heard).heard.events
    found = consumer.tell(Heard())
    assert (found.accepted, found.forgotten) == (70 + 2 * 12, 50)
    come_back(client, without=3)
    last.add([make_event()], {})
    found = consumer.tell(Heard())
    assert (found.accepted, found.forgotten) == (70 + 2 * 12 + 1, 53)


def test_the_audit_knows_what_the_server_has_not_been_told(
    client, redis_url, applications, consumer, migrated_dsn
):
    applications[0].add([make_event()] * 10, {})
    known = consumer.read(10).ledger
    inspector = Inspector(redis_url, key_prefix=PREFIX)
    with store_connection(migrated_dsn) as connection:
        ledger.open_epoch(connection, known.epoch)
        ledger.adopt_life(connection, known.epoch, known="", life=known.life)
        ledger.add(connection, LedgerRow(known.epoch, 10, 0, 0, 8, 0, 0, known.life))
        client.xtrim(STREAM, 0)
        come_back(client, without=4)
        assert audit(inspector, connection).difference == 2
        consumer.tell(Heard())  # somebody who knows nothing noticed that it is another server
        assert audit(inspector, connection).difference == 2
        consumer.tell(Heard(known.epoch, known.life, 10))
        assert audit(inspector, connection).difference == 2
        # What another life of the server said does not count, nor does it set anything back.
        ledger.add(connection, LedgerRow(known.epoch, 999, 0, 0, 0, 0, 0, "another"))
        assert ledger.rows(connection) == [LedgerRow(known.epoch, 10, 0, 0, 8, 0, 0, known.life)]
    inspector.close()


def test_books_that_were_deleted_are_written_anew_as_long_as_the_stream_is_there(client, applications):
    first, last = applications
    first.add([make_event()] * 40, {})
    last.add([make_event()] * 30, {})
    epoch = client.hget(LEDGER, "epoch")
    client.delete(LEDGER)
    first.add([make_event()], {})
    last.add([make_event()], {})
    last.add([make_event()], {})
    assert client.hmget(LEDGER, "epoch", "accepted") == [epoch, b"73"]


def test_an_empty_server_is_told_how_far_it_had_come(client, applications, consumer):
    first, last = applications
    first.add([make_event()] * 40, {})
    last.add([make_event()] * 30, {})
    epoch = client.hget(LEDGER, "epoch").decode()
    client.flushall()
    for application in (last, first, last):
        application.add([make_event()], {})
    found = consumer.read(10).ledger
    assert found.epoch != epoch
    assert (found.accepted, found.earlier) == (3, ((epoch, 70),))


def test_an_id_that_was_given_out_again_is_another_entry(client, redis_url, applications, migrated_dsn):
    """As by a server that is behind, and whose clock is, too."""
    for _ in range(2):
        applications[0].add([make_event()], {})
        ((_, fields),) = client.xrange(STREAM)
        client.delete(STREAM)
        client.xadd(STREAM, fields, id="7-7")
        with make_worker(make_settings(redis_url, migrated_dsn)) as worker:
            assert worker.run_once().events.stored == 1
        client.delete(STREAM)


def test_no_more_is_taken_off_than_may_be_where_ids_are_ahead_of_the_clock(client, consumer):
    for number in range(10):
        client.xadd(STREAM, {"n": "1"}, id=f"99999999999999-{number}")
    consumer.read(5)
    trimmed = consumer.trim(7_200, max_entries=4)
    assert (trimmed.removed, trimmed.first_id) == (0, "99999999999999-0")


def test_a_full_server_takes_nothing_from_applications(client, applications, consumer):
    applications[0].add([make_event()], {})
    come_back(client, without=0)
    before = client.hgetall(LEDGER)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StreamUnavailable, match="OOM command not allowed"):
            applications[0].add([make_event()], {})
        assert client.hgetall(LEDGER) == before
        # A worker, which makes room, has to get through.
        assert consumer.tell(Heard()).life != before[b"life"].decode()
    finally:
        client.config_set("maxmemory", "0")
    assert client.xlen(STREAM) == 1
