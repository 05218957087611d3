"""Workers that are killed, held, and told to stop, while events come."""

import os
import signal
import time

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


def test_killed_right_before_the_commit(scene, tell):
    with scene() as here, Proxy(here.postgres.port) as proxy:
        load = here.load(rate=1_000)
        worker = here.worker(
            postgres_dsn=here.settings.postgres_dsn.replace(str(here.postgres.port), str(proxy.port))
        )
        time.sleep(2)

        def die(piece):
            if b"COMMIT" in piece and worker.poll() is None:
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
        tell(2, "worker: killed right before COMMIT", outcome)


def test_killed_between_the_commit_and_the_acknowledgement(scene, tell):
    with scene() as here, Proxy(here.redis.port) as proxy:
        load = here.load(rate=1_000)
        worker = here.worker(redis_url=here.settings.redis_url.replace(str(here.redis.port), str(proxy.port)))
        time.sleep(2)

        def die(piece):
            if b"XACK" in piece and worker.poll() is None:
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
        tell(2, "worker: killed between COMMIT and XACK", outcome)


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
