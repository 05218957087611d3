"""Workers that are killed, held, and told to stop, while events come."""

import os
import signal
import time

import pytest
from backend import raw_postgres, scalar
from fault_proxy import Proxy
from waiting import until


def test_killed_again_and_again_during_a_drain(scene, tell, long):
    with scene() as here:
        load = here.load(rate=2_000)
        end = time.monotonic() + (60 if long else 6)
        while time.monotonic() < end:
            worker = here.worker()
            time.sleep(0.6)
            worker.kill()
        load.stop()
        here.worker()
        outcome = here.outcome()
        outcome.check()
        tell(1, "worker: kill -9 every 0.6 s during a drain", outcome)


@pytest.mark.parametrize(
    ("server", "command", "when"),
    [
        pytest.param("postgres", b"COMMIT", "right before COMMIT", id="before-commit"),
        pytest.param("redis", b"XACK", "between COMMIT and XACK", id="before-acknowledgement"),
    ],
)
def test_killed_at_the_worst_moment(scene, tell, server, command, when):
    with scene() as here, Proxy(port := getattr(here, server).port) as proxy:
        load = here.load(rate=1_000)
        setting = {"postgres": "postgres_dsn", "redis": "redis_url"}[server]
        address = getattr(here.settings, setting).replace(str(port), str(proxy.port))
        worker = here.worker(**{setting: address})
        time.sleep(2)

        def die(piece):
            if command in piece and worker.poll() is None:
                worker.kill()
                worker.wait()
                return False
            return True

        proxy.on_request = die
        until(lambda: worker.poll() == -signal.SIGKILL)
        load.stop()
        here.worker()
        outcome = here.outcome()
        outcome.check()
        tell(2, f"worker: killed {when}", outcome)


def test_held_past_the_claim_time_and_let_go(scene, tell, long):
    with scene(claim_idle_seconds=1.0) as here:
        load = here.load(rate=1_000)
        held, _ = here.worker(), here.worker()
        for _ in range(5 if long else 2):
            time.sleep(1)
            os.kill(held.pid, signal.SIGSTOP)
            time.sleep(3)
            os.kill(held.pid, signal.SIGCONT)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        tell(3, "worker: SIGSTOP past the claim time, then CONT", outcome)


def test_eight_workers_at_once_that_take_entries_from_each_other(scene, tell, long):
    with scene(claim_idle_seconds=1.0, worker_batch_size=500) as here:
        load = here.load(rate=2_000)
        workers = [here.worker() for _ in range(8)]
        for worker in workers * (3 if long else 1):
            os.kill(worker.pid, signal.SIGSTOP)
            time.sleep(1.3)  # what it holds goes to another one, and it knows nothing of that
            os.kill(worker.pid, signal.SIGCONT)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        with raw_postgres(here.postgres.url) as connection:
            deadlocks = scalar(
                connection, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
        assert deadlocks == 0
        assert all(worker.poll() is None for worker in workers)
        tell(4, "worker: eight at once, overlapping redelivery", outcome)


def test_told_to_stop_with_work_in_hand(scene, tell, long):
    with scene() as here:
        load = here.load(rate=2_000)
        slowest = 0.0
        for _ in range(10 if long else 3):
            worker = here.worker()
            until(lambda: b"serving" in (log := worker.log.read_bytes()) or b"connected to postgres" in log)  # noqa: B023
            time.sleep(1)
            began = time.monotonic()
            worker.terminate()
            assert worker.wait(30) == 0
            slowest = max(slowest, time.monotonic() - began)
        load.stop()
        stopped = here.outcome(wait=0)
        here.worker()
        outcome = here.outcome()
        outcome.check()
        assert stopped.pending == 0, "a worker that was told to stop left entries for others to wait for"
        assert slowest < 5, "systemd and Kubernetes would have killed it"
        tell(5, "worker: SIGTERM", outcome)
