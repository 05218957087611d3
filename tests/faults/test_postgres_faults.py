"""PostgreSQL misbehaves, while events come to it by way of the stream and straight from the application."""

import dataclasses
import datetime as dt
import os
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
from backend import raw_postgres, scalar
from fault_proxy import Proxy
from fault_servers import PostgresServer
from scene import make_event
from waiting import until

pytestmark = pytest.mark.timeout(600)
OURS = "starts_with(application_name, 'otel-analytics')"
SLOWEST_OFFER_SECONDS = 0.5
"""What a request may notice on a busy machine. An offer that waited for PostgreSQL would take seconds."""
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, so that a full one is full for nobody else; mounting it takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=755", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


class Traffic:
    """Events to a worker and events straight to PostgreSQL, at once.

    Attributes:
        worker: The process.
        loads: Where the events come from.
    """

    def __init__(self, here, *, dsn=None, make=None):
        self._here = here
        settings = dataclasses.replace(here.settings, postgres_dsn=dsn or here.settings.postgres_dsn)
        self.loads = [
            here.load(rate=700, make=make),
            here.load(rate=200, make=make, settings=dataclasses.replace(settings, exporter="postgres")),
        ]
        self.worker = here.worker(postgres_dsn=settings.postgres_dsn)
        until(lambda: all(load.exporter.accepted for load in self.loads))
        # A worker that cannot begin ends; what is tried here is one that has begun.
        until(self._worker_stores)

    def ends(self):
        """No more events come; when all are where they belong, what became of them is checked."""
        for load in self.loads:
            load.stop()
        outcome = self._here.outcome()
        outcome.check()
        assert outcome.dropped == {}
        slowest = max(load.slowest_offer for load in self.loads)
        assert slowest < SLOWEST_OFFER_SECONDS, f"{slowest:.2f} s"
        return outcome

    def _worker_stores(self):
        with raw_postgres(self._here.postgres.url) as connection:
            return scalar(connection, "SELECT sum(stored) FROM route_analytics_ledger")


def by_way_of(proxy, here, **options):
    """The DSN through a proxy, with options that the server sets for the session."""
    dsn = here.settings.postgres_dsn.replace(str(here.postgres.port), str(proxy.port))
    given = "%20".join(f"-c%20{name}%3D{value}" for name, value in options.items())
    return f"{dsn}?options={given}" if given else dsn


def end_sessions(connection):
    """Terminate all of ours; how many there were."""
    return len(
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}").fetchall()
    )


def answers(here):
    """Whether PostgreSQL is up."""
    with suppress(psycopg.Error), raw_postgres(here.postgres.url) as connection:
        return scalar(connection, "SELECT true")
    return False


@contextmanager
def holding(here, statement):
    """Whatever locks the statement takes, held in a transaction that stays open."""
    with psycopg.connect(here.postgres.url) as other:
        other.execute(statement)
        yield other


def test_immediate_stop(scene, tell, long):
    with scene() as here:
        # As somebody may have it for the whole server; what is accepted has to be on the disk all the same.
        here.postgres.set(synchronous_commit="off", wal_writer_delay="'10s'")
        traffic = Traffic(here)
        for _ in range(10 if long else 2):
            time.sleep(1)
            here.postgres.stop_immediately()
            time.sleep(0.5)
            here.postgres.start()
        tell(16, "PostgreSQL: immediate stop, again and again", traffic.ends())


def test_sessions_terminated_in_a_loop(scene, tell, long):
    with scene() as here:
        traffic = Traffic(here)
        ended = 0
        end = time.monotonic() + (60 if long else 5)
        with raw_postgres(here.postgres.url) as admin:
            while time.monotonic() < end:
                ended += end_sessions(admin)
                time.sleep(0.05)
        assert ended > 5
        tell(17, "PostgreSQL: pg_terminate_backend in a loop", traffic.ends())


def test_the_answer_to_a_commit_is_lost_with_the_connection(scene, tell, long):
    with scene() as here, Proxy(here.postgres.port) as proxy:
        traffic = Traffic(here, dsn=by_way_of(proxy, here))
        wanted = 30 if long else 5
        lost = []

        def lose(piece):
            if COMMITTED not in piece or len(lost) == wanted:
                return True
            lost.append(piece)
            proxy.break_connections()
            return False

        proxy.on_answer = lose
        until(lambda: len(lost) == wanted, 300)
        tell(18, "PostgreSQL: COMMIT's answer lost with its connection", traffic.ends())


def test_the_answer_to_a_commit_is_lost_in_silence(scene, tell):
    with scene() as here, Proxy(here.postgres.port) as proxy:
        traffic = Traffic(here, dsn=by_way_of(proxy, here, statement_timeout="1s"))
        lost = []

        def lose(piece):
            if COMMITTED not in piece or len(lost) == 3:
                return True
            lost.append(piece)
            return False

        proxy.on_answer = lose
        until(lambda: len(lost) == 3, 60)
        tell(18, "PostgreSQL: COMMIT's answer lost in silence", traffic.ends())


def test_the_table_is_locked(scene, tell, long):
    with scene() as here:
        traffic = Traffic(here)
        with holding(here, "LOCK TABLE route_analytics"):
            time.sleep(180 if long else 13)
        # The operator is told, instead of a worker that seems to be well.
        assert "lock timeout" in traffic.worker.log.read_text()
        tell(19, "PostgreSQL: LOCK TABLE", traffic.ends())


def test_statements_time_out(scene, tell, long):
    with scene() as here:
        traffic = Traffic(here)
        with psycopg.connect(here.postgres.url, autocommit=True) as admin:
            admin.execute("SET statement_timeout = 0")
            for limit in ("1ms", "5ms", "20ms"):
                admin.execute(f"ALTER SYSTEM SET statement_timeout = '{limit}'")
                admin.execute("SELECT pg_reload_conf()")
                time.sleep(20 if long else 1.5)
            admin.execute("ALTER SYSTEM RESET statement_timeout")
            admin.execute("SELECT pg_reload_conf()")
        assert "statement timeout" in traffic.worker.log.read_text()
        tell(20, "PostgreSQL: statement timeouts", traffic.ends())


@pytest.mark.parametrize("what", ["data", "log of changes"])
def test_the_disk_is_full(scene, tell, long, small_disk, what):
    postgres = PostgresServer(small_disk / "postgres")
    with scene(postgres=postgres) as here:
        postgres.set(max_wal_size="'32MB'", min_wal_size="'32MB'")
        traffic = Traffic(here)
        ballast = small_disk / "ballast"
        for _ in range(3 if long else 1):
            with suppress(OSError), ballast.open("wb") as file:
                while file.write(bytes(65_536)):
                    file.flush()
            if what == "log of changes":
                until(lambda: not has_room_for_changes(here))
            else:
                until(lambda: "space" in traffic.worker.log.read_text())
            time.sleep(20 if long else 2)
            ballast.unlink()
            time.sleep(1)
            if not answers(here):  # an operator has to start it again
                postgres.stop()
                postgres.start()
            time.sleep(1)
        tell(21, f"PostgreSQL: disk full, for its {what}", traffic.ends())


def has_room_for_changes(here):
    """Whether a new file of the write-ahead log can be begun; where it cannot, PostgreSQL may end."""
    with suppress(psycopg.Error), raw_postgres(here.postgres.url) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
        return True
    return False


def test_the_partition_of_tomorrow_is_dropped(scene, tell, long):
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    midnight = dt.datetime.combine(tomorrow, dt.time(), tzinfo=dt.UTC)
    is_tomorrow = threading.Event()

    def make(number):
        shift = round(midnight.timestamp() * 1e6) if is_tomorrow.is_set() else None
        return make_event(number, **({"timestamp_us": shift + number} if shift else {}))

    partition = f"route_analytics_{tomorrow:y%Ym%md%d}"
    with scene() as here:
        traffic = Traffic(here, make=make)
        with raw_postgres(here.postgres.url) as admin:
            admin.execute(f"DROP TABLE {partition}")
            is_tomorrow.set()
            time.sleep(10 if long else 3)
            assert scalar(admin, f"SELECT count(*) FROM {partition}")
        tell(22, "PostgreSQL: tomorrow's partition dropped", traffic.ends())


def test_no_connection_slots(scene, tell, long):
    with scene() as here, ExitStack() as taken:
        here.postgres.set(max_connections=12)
        here.postgres.stop()
        here.postgres.start()
        traffic = Traffic(here)
        admin = taken.enter_context(raw_postgres(here.postgres.url))

        def all_are_taken():
            end_sessions(admin)
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(raw_postgres(here.postgres.url))
            return not scalar(admin, f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}")

        until(all_are_taken)
        time.sleep(60 if long else 3)
        taken.close()
        tell(23, "PostgreSQL: no connection slots", traffic.ends())


def test_read_only(scene, tell, long):
    with scene() as here:
        traffic = Traffic(here)
        here.postgres.set(default_transaction_read_only="on")
        time.sleep(60 if long else 3)
        with psycopg.connect(here.postgres.url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
        here.postgres.set(default_transaction_read_only="off")
        assert "read-only" in traffic.worker.log.read_text()
        tell(24, "PostgreSQL: read-only", traffic.ends())


def test_connections_vanish_in_a_black_hole(scene, tell, long):
    with scene() as here, Proxy(here.postgres.port) as proxy:
        traffic = Traffic(here, dsn=by_way_of(proxy, here))
        inside = threading.Event()

        def swallow(piece):
            if inside.is_set():
                return False
            # What a worker begins a transaction with; the locks are taken, and nobody hears of it.
            if b"INSERT INTO route_analytics_stream_entries" in piece:
                inside.set()
                proxy.blackhole()
            return True

        proxy.on_request = swallow
        assert inside.wait(10)
        # The session is left behind with its locks; who takes over may not wait for ever.
        began = time.time()
        here.worker()
        taken_over = (
            "SELECT count(*) FROM route_analytics WHERE created_at > to_timestamp(%s) + interval '3 s'"
        )
        with raw_postgres(here.postgres.url) as admin:
            until(lambda: scalar(admin, taken_over, began), 40)
        time.sleep(90 if long else 0)
        proxy.on_request = lambda piece: True
        proxy.pass_again()
        proxy.break_connections()
        tell(25, "PostgreSQL: connections black-holed", traffic.ends())


def an_hour_ago(number):
    """An event of an hour that is over, which is rolled up more often."""
    return make_event(number, timestamp_us=time.time_ns() // 1_000 - 3_600_000_000)


@contextmanager
def a_rollup_that_waits(here):
    """Hold a worker's rollup in the middle, by a lock on rows that it is about to write; its session."""
    rolled = "SELECT count(*) FROM route_analytics_hourly"
    waits = f"""
        SELECT pid FROM pg_stat_activity
        WHERE {OURS} AND wait_event_type = 'Lock' AND strpos(query, 'WITH written') > 0
    """
    with raw_postgres(here.postgres.url) as admin:
        until(lambda: scalar(admin, rolled))
        with holding(here, "SELECT FROM route_analytics_hourly FOR UPDATE"):
            until(lambda: admin.execute(waits).fetchone())
            yield scalar(admin, waits)


@pytest.mark.parametrize("how", ["kill -9 of the worker", "pg_cancel_backend"])
def test_a_rollup_is_interrupted(scene, tell, how):
    with scene() as here:
        traffic = Traffic(here, make=an_hour_ago)
        with a_rollup_that_waits(here) as session:
            if how == "pg_cancel_backend":
                with raw_postgres(here.postgres.url) as admin:
                    admin.execute("SELECT pg_cancel_backend(%s)", [session])
            else:
                traffic.worker.kill()
                assert traffic.worker.wait() == -signal.SIGKILL
                here.worker()
            time.sleep(0.5)
        time.sleep(1)
        tell(26, f"PostgreSQL: rollup interrupted, {how}", traffic.ends())


def test_events_are_committed_during_a_rollup(scene, tell):
    with scene() as here:
        traffic = Traffic(here, make=an_hour_ago)
        here.worker()
        with a_rollup_that_waits(here), raw_postgres(here.postgres.url) as admin:
            before = scalar(admin, "SELECT count(*) FROM route_analytics")
            until(lambda: scalar(admin, "SELECT count(*) FROM route_analytics") > before + 1_000)
            for load in traffic.loads:
                load.stop()
        tell(26, "PostgreSQL: events committed during a rollup", traffic.ends())
