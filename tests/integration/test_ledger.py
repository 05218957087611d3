import threading

import pytest
from backend import PREFIX, make_consumer, make_event, make_settings, produce, random_events, store_connection

from otel_analytics.errors import NotMigrated
from otel_analytics.ingest import Ingest
from otel_analytics.ledger import audit
from otel_analytics.store import ledger
from otel_analytics.store.connection import connect
from otel_analytics.stream import Inspector
from otel_analytics.worker import utc_now


@pytest.fixture
def inspector(redis_url):
    inspector = Inspector(redis_url, key_prefix=PREFIX)
    yield inspector
    inspector.close()


def test_nothing_balances(inspector, migrated_dsn):
    with connect(migrated_dsn) as connection:
        report = audit(inspector, connection)
    assert report.balanced
    assert (report.epoch, report.accepted, report.lost_in_earlier_epochs) == ("", 0, 0)


def test_an_empty_database_is_named(inspector, postgres_dsn):
    with connect(postgres_dsn) as connection, pytest.raises(NotMigrated):
        audit(inspector, connection)


def test_pending_is_counted_on_the_stream_before_any_worker(inspector, redis_url, migrated_dsn):
    produce(redis_url, *([make_event()] * n for n in range(1, 101)))
    with connect(migrated_dsn) as connection:
        report = audit(inspector, connection)
    assert (report.pending, report.balanced) == (5_050, True)


def test_the_books_balance_at_any_moment(inspector, redis_url, migrated_dsn):  # noqa: C901
    """Producer, worker and auditor at once; no audit may see an event missing or twice."""
    stop = threading.Event()
    failures = []

    def guarded(work):
        try:
            work()
        except Exception as error:
            failures.append(error)
        finally:
            stop.set()

    def keep_producing():
        for seed in range(150):
            produce(redis_url, random_events(20, seed, since=utc_now()))

    def keep_storing():
        consumer = make_consumer(redis_url)
        ingest = Ingest(consumer, make_settings(worker_batch_size=60), utc_now)
        with store_connection(migrated_dsn, utc_now().date()) as connection:
            while not stop.is_set():
                if batch := ingest.read():
                    ingest.store(connection, batch)
                consumer.trim(1.0, 100_000)
        consumer.close()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (keep_producing, keep_storing)]
    reports = []
    with connect(migrated_dsn) as connection:
        for thread in threads:
            thread.start()
        while not stop.is_set():
            reports.append(audit(inspector, connection))
        for thread in threads:
            thread.join()
        assert not failures
        reports.append(audit(inspector, connection))
    assert [report.difference for report in reports] == [0] * len(reports)
    assert len(reports) > 2
    assert reports[-1].accepted == 3_000
    assert any(report.pending for report in reports)


def test_entries_are_forgotten_only_below_the_first_id(migrated_dsn):
    with connect(migrated_dsn) as connection:
        ledger.open_epoch(connection, "now")
        ids = ["9-0", "10-0", "10-1", "10-12", "200-0"]
        assert ledger.claim_entries(connection, "now", ids) == set(ids)
        assert ledger.claim_entries(connection, "now", [*ids, "7-7"]) == {"7-7"}
        assert ledger.claim_entries(connection, "before", ["300-0"]) == {"300-0"}
        # A Redis that comes back without its last second may have them on the stream again.
        assert ledger.forget_entries(connection, "now", "10-2") == 0
        connection.execute(
            "UPDATE route_analytics_stream_entries SET processed_at = now() - interval '61 seconds'"
        )
        assert ledger.forget_entries(connection, "now", "10-2") == 4
        assert ledger.known_entries(connection, "now", [*ids, "7-7"]) == {"10-12", "200-0"}
        connection.execute(
            "UPDATE route_analytics_stream_entries SET processed_at = now() - interval '25 hours'"
        )
        assert ledger.forget_entries(connection, "now", "10-2") == 1
        assert ledger.known_entries(connection, "before", ["300-0"]) == set()


def test_what_redis_says_is_not_set_back_by_a_late_transaction(migrated_dsn):
    with connect(migrated_dsn) as connection:
        assert ledger.open_epoch(connection, "now") == []
        assert ledger.open_epoch(connection, "now") is None
        for accepted in (10, 30, 20):
            ledger.add(connection, ledger.LedgerRow("now", accepted, 0, 0, 5, 1, 1))
        assert ledger.rows(connection) == [ledger.LedgerRow("now", 30, 0, 0, 15, 3, 3)]
        assert ledger.rows(connection)[0].unaccounted == 9
