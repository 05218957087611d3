"""Events that can never be stored, among those that can, and clocks that are wrong."""

import os
import signal
import time

from backend import raw_postgres, raw_redis, scalar
from scene import KEYS, make_event
from waiting import until

BAD_ROUTE = "/poison" + "x" * 2_000


def test_one_event_in_a_thousand_is_poison(scene, tell, long):
    poison = set()

    def make(number):
        event = make_event(number)
        if number % 1_000 == 500:
            event = (
                event._replace(status_code=10_000)
                if number % 2_000 == 500
                else event._replace(route=BAD_ROUTE)
            )
            poison.add(event.event_id)
        return event

    with scene() as here:
        load = here.load(rate=2_000, make=make)
        here.worker()
        time.sleep(60 if long else 5)
        load.stop()
        outcome = here.outcome()
        outcome.check(dead=len(poison))
        assert outcome.dead == poison
        with raw_redis(here.redis.url) as client:
            reasons = {fields[b"reason"] for _, fields in client.xrange(KEYS.dead)}
        assert all(b"status_code" in each or b"route" in each for each in reasons), reasons
        tell(27, "data: 1 poison event in 1,000", outcome)


def test_nothing_but_poison(scene, tell):
    with scene(poison_limit=20) as here:
        load = here.load(rate=500, make=lambda number: make_event(number, duration_ms=-1.0), batch_size=5)
        worker = here.worker()
        assert worker.wait(30) == 1
        load.stop()
        log = worker.log.read_text()
        assert "held nothing that can be stored" in log
        assert "Traceback" not in log
        outcome = here.outcome(wait=0)
        assert not outcome.stored
        assert outcome.dead
        assert outcome.audit["balanced"], outcome.audit
        # Once somebody has seen to it, the rest is drained by workers that are started again.
        here.worker(poison_limit=1_000_000)
        ended = here.outcome()
        ended.check(dead=len(ended.accepted))
        tell(28, "data: nothing but poison, the worker halts", ended)


def test_dead_letters_that_redis_refuses(scene, tell):
    with scene() as here:
        worker = here.worker()
        until(lambda: b"connected to postgresql" in worker.log.read_bytes())
        time.sleep(1)  # it has made its group
        os.kill(worker.pid, signal.SIGSTOP)
        load = here.load(make=lambda number: make_event(number, status_code=200 if number % 100 else 7_000))
        until(lambda: len(load.offered) > 500)
        load.stop()
        with raw_redis(here.redis.url) as client:
            client.config_set("maxmemory", 1)
            os.kill(worker.pid, signal.SIGCONT)
            until(lambda: "OOM" in worker.log.read_text())
            time.sleep(2)
            refused = here.outcome(wait=0)
            assert not refused.dead
            assert worker.poll() is None
            assert refused.pending, "an entry was acknowledged though its dead letter was not written"
            client.config_set("maxmemory", 0)
        outcome = here.outcome()
        outcome.check(dead=len(outcome.accepted) - len(outcome.stored))
        assert outcome.dead
        tell(29, "data: dead letter refused by a full Redis", outcome)


def test_clocks_that_step(scene, tell, long):
    """Applications whose clocks go back and forward; events that are late, and from the future."""
    steps = (0, -3_600, 3_600, -6 * 3_600, 86_000, -29 * 86_400, 5 * 86_400, -40 * 86_400)
    impossible = set()

    def make(number):
        step = steps[number // 100 % len(steps)]
        event = make_event(number)
        event = event._replace(timestamp_us=event.timestamp_us + step * 1_000_000)
        if not -30 * 86_400 < step < 86_400:
            impossible.add(event.event_id)
        return event

    with scene() as here:
        load = here.load(rate=1_000, make=make)
        here.worker()
        time.sleep(30 if long else 4)
        load.stop()
        outcome = here.outcome()
        outcome.check(dead=len(impossible))
        assert outcome.dead == impossible
        with raw_postgres(here.postgres.url) as connection:
            hours = scalar(connection, 'SELECT count(DISTINCT "timestamp") FROM route_analytics_hourly')
        assert hours >= 6
        tell(30, "data: clocks that step, late and future events", outcome)


def test_the_clock_of_redis_steps_back(scene, tell):
    """Ids of entries only grow, so an entry of the future is what a clock that stepped back leaves behind."""
    with scene() as here:
        worker = here.worker()
        load = here.load(rate=500)
        time.sleep(2)
        with raw_redis(here.redis.url) as client:
            ahead = int(time.time() * 1_000) + 3_600_000
            client.xadd(KEYS.stream, {"v": "1", "n": "0", "events": "[]"}, id=f"{ahead}-0")
        time.sleep(3)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        assert worker.poll() is None
        tell(30, "data: Redis's clock steps back an hour", outcome)
