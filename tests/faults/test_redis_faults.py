"""Redis that is killed, held, full, tampered with, and replaced by another."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from statistics import median, quantiles

import pytest
from backend import raw_postgres, raw_redis, scalar
from fault_proxy import Proxy
from fault_servers import RedisServer
from scene import KEYS, make_event
from service import UVICORN, Service
from waiting import until

from otel_analytics.embedded.process import HOST
from otel_analytics.stream.connection import REPLY_TIMEOUT_SECONDS
from otel_analytics.stream.keys import GROUP

MARGIN_SECONDS = 0.5
"""How exactly a moment is known from outside, on a machine that has other work."""


@contextmanager
def held(worker):
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


def keeps_up(scene, load):
    """Whether a worker stores the events as they come."""
    with raw_postgres(scene.postgres.url) as connection:
        stored = scalar(connection, "SELECT count(*) FROM route_analytics")
    return stored > 500 and stored > len(load.exporter.accepted) - 200


def accepted_since(load, moment):
    return {event_id for event_id, when in load.exporter.accepted.items() if when >= moment}


def missing(outcome):
    """What the books say is lost."""
    return outcome.audit["difference"] + outcome.audit["lost_in_earlier_epochs"]


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_killed(scene, tell, long, tmp_path, policy):
    with scene(redis=RedisServer(tmp_path / "redis", appendfsync=policy)) as here:
        load = here.load(rate=1_000)
        here.worker()
        for _ in range(20 if long else 3):
            time.sleep(1)
            here.redis.restart()
        load.stop()
        outcome = here.outcome()
        # What Redis has answered for it has handed to the system, which outlives it.
        outcome.check()
        number = 6 if policy == "everysec" else 7
        tell(number, f"Redis: kill -9 again and again, AOF {policy}", outcome)


def test_power_lost(scene, tell):
    """AOF everysec: the last second was not on the disk, and half of it not yet stored."""
    unwritten = 1.0
    with scene() as here:
        load = here.load(rate=1_000)
        worker = here.worker()
        until(lambda: keeps_up(here, load))
        power_lost = time.time() + unwritten
        holding = threading.Timer(unwritten / 2, os.kill, (worker.pid, signal.SIGSTOP))
        holding.start()
        here.redis.lose_power(unwritten)
        here.redis.start()
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(2)
        load.stop()
        outcome = here.outcome()
        assert outcome.lost
        assert outcome.lost <= accepted_since(load, power_lost - unwritten - MARGIN_SECONDS)
        outcome.check(lost=len(outcome.lost))
        assert missing(outcome) == len(outcome.lost)
        assert outcome.audit["lost_in_earlier_epochs"] == 0
        assert "came back without the last events" in worker.log.read_text()
        tell(6, "Redis: power lost, the last second not on disk", outcome)


def test_power_lost_and_nobody_left_who_remembers(scene, tell):
    """Applications and worker went down, too, but all was stored: no loss, and no false alarm."""
    with scene() as here:
        load = here.load(rate=1_000)
        worker = here.worker()
        until(lambda: keeps_up(here, load))
        threading.Timer(0.5, load.stop).start()
        here.redis.lose_power(1.0)
        worker.kill()
        here.redis.start()
        again = here.load(rate=1_000)
        here.worker()
        time.sleep(1)
        again.stop()
        outcome = here.outcome()
        outcome.check()
        tell(6, "Redis: power lost, applications and worker with it", outcome)


def test_restarted_without_persistence(scene, tell, tmp_path):
    with scene(redis=RedisServer(tmp_path / "redis", append_only=False)) as here:
        load = here.load(rate=1_000)
        worker = here.worker()
        until(lambda: keeps_up(here, load))
        with held(worker):
            since = time.time()
            time.sleep(1)
            here.redis.kill()
            here.redis.start()
        time.sleep(2)
        load.stop()
        outcome = here.outcome()
        assert outcome.lost
        assert outcome.lost <= accepted_since(load, since - MARGIN_SECONDS)
        outcome.check(lost=len(outcome.lost))
        assert outcome.audit["lost_in_earlier_epochs"] == len(outcome.lost)
        assert outcome.audit["difference"] == 0
        assert f"{len(outcome.lost)} events were never stored and are lost" in worker.log.read_text()
        tell(8, "Redis: restarted without persistence", outcome)


def test_held_for_longer_than_an_application_waits(scene, tell, long):
    with scene() as here:
        impatient = dataclasses.replace(here.settings, redis_url=f"{here.redis.url}?socket_timeout=0.4")
        load = here.load(rate=1_000, settings=impatient, buffer_size=500)
        here.worker()
        for _ in range(20 if long else 3):
            time.sleep(0.7)
            with here.redis.paused():
                time.sleep(1.2)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        assert outcome.audit["duplicates"], "no answer came too late"
        assert outcome.dropped
        assert outcome.dropped == outcome.audit["drops"]
        assert load.slowest_offer < 0.5
        tell(9, "Redis: SIGSTOP 1.2 s, entries are sent twice", outcome)


class Requests:
    """Requests at a steady pace on connections that stay open; how long each took, by windows of time."""

    def __init__(self, address):
        self.windows = []
        self.answered = set()
        self._address = str(address)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(4)]

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for each in self._threads:
            each.join()

    def window(self, seconds):
        """The durations of the requests of the coming seconds."""
        durations = []
        self.windows.append(durations)
        time.sleep(seconds)
        self.windows.append([])
        return durations

    def _run(self, thread):
        connection = HTTPConnection("app", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._address)
        number = thread
        while not self._stop.wait(0.004):
            durations = self.windows[-1] if self.windows else []
            path = f"/items/{number}"
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            durations.append(time.perf_counter() - began)
            if answer.status == 200:
                self.answered.add(path)
            number += len(self._threads)
        connection.close()


def p99(durations):
    return quantiles(durations, n=100)[-1]


@pytest.mark.timeout(900)
def test_held_while_requests_go_on(scene, tell, long, tmp_path):
    rounds, seconds = (3, 60) if long else (2, 2.5)
    (tmp_path / "app").mkdir()
    with scene() as here:
        service = Service(tmp_path / "app", UVICORN, {"OTEL_ANALYTICS_REDIS_URL": here.redis.url})
        with service.running(), Requests(service.socket) as requests:
            here.worker()
            requests.window(1)
            usual, faulty = [], []
            for _ in range(rounds):
                usual.append(requests.window(seconds))
                with here.redis.paused():
                    faulty.append(requests.window(seconds))
                time.sleep(5 if long else 0.5)  # to send what waited
        here.drain()
        outcome = here.outcome()
        with raw_postgres(here.postgres.url) as connection:
            rows = connection.execute("SELECT route_full FROM route_analytics").fetchall()
        stored = {path for (path,) in rows}
        dropped = sum(outcome.audit["drops"].values())
        lost = requests.answered - stored
        assert (outcome.duplicates, outcome.pending, outcome.rollup_differs) == (0, 0, [])
        assert outcome.audit["balanced"], outcome.audit
        assert len(lost) == dropped
        if not long:
            assert not lost
        slowest = max(max(each) for each in faulty)
        assert slowest < REPLY_TIMEOUT_SECONDS / 2, "a request waited for Redis"
        before, then = (median(map(p99, windows)) * 1_000 for windows in (usual, faulty))
        if long:
            assert then <= 1.1 * before
        figures = f"p99 {before:.2f} ms, held {then:.2f} ms"
        tell(
            10, f"Redis: SIGSTOP {seconds} s, {figures}", outcome,
            accepted=len(requests.answered), dropped=dropped, lost=0,
        )  # fmt: skip


def test_full(scene, tell):
    """No worker, then one; a dead letter in each batch, which a full Redis refuses as well."""
    poison = set()

    def make(number):
        event = make_event(number, status_code=200 if number % 500 else 7_000)
        if not number % 500:
            poison.add(event.event_id)
        return event

    with scene() as here, raw_redis(here.redis.url) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
        load = here.load(rate=2_000, make=make, buffer_size=2_000)
        until(lambda: load.dropped)
        refused = len(load.exporter.accepted)
        worker = here.worker()
        until(lambda: len(load.exporter.accepted) > refused + 3_000)
        load.stop()
        outcome = here.outcome()
        outcome.check(dead=len(poison & outcome.accepted))
        assert outcome.dropped == outcome.audit["drops"]
        assert worker.poll() is None
        tell(11, "Redis: full with noeviction, drains itself", outcome)


def test_switched_to_evict(scene, tell):
    with scene() as here:
        running = here.worker()
        load = here.load(rate=500)
        until(lambda: keeps_up(here, load))
        here.redis.configure(maxmemory_policy="allkeys-lru")
        until(lambda: "was switched to maxmemory-policy allkeys-lru" in running.log.read_text())
        refusing = here.worker()
        assert refusing.wait(20) == 1
        assert "maxmemory-policy allkeys-lru and may delete the whole stream" in refusing.log.read_text()
        time.sleep(1)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        assert running.poll() is None
        tell(12, "Redis: allkeys-lru, a worker refuses, a running one alarms", outcome)


@contextmanager
def small_disk(directory, size):
    """A disk of its own, for those who may mount one."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_disk_full(scene, tell, tmp_path):
    with (
        small_disk(tmp_path / "disk", "64m") as disk,
        scene(redis=RedisServer(disk / "redis")) as here,
    ):
        load = here.load(rate=1_000, buffer_size=1_000)
        worker = here.worker()
        time.sleep(1)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 65_536):
                pass
        until(lambda: load.dropped)
        until(lambda: "MISCONF" in worker.log.read_text())
        filler.unlink()
        accepted = len(load.exporter.accepted)
        until(lambda: len(load.exporter.accepted) > accepted + 1_000)
        load.stop()
        outcome = here.outcome()
        outcome.check()
        assert outcome.dropped == outcome.audit["drops"]
        tell(13, "Redis: disk of the AOF full", outcome)


INTRUDERS = {
    "trims the stream": (("XTRIM", KEYS.stream, "MAXLEN", 0),),
    "deletes the stream": (("DEL", KEYS.stream),),
    "deletes all": (("FLUSHALL",),),
    "deletes the ledger": (("DEL", KEYS.ledger),),
    "destroys the group": (("XGROUP", "DESTROY", KEYS.stream, GROUP),),
    "sets the last id ahead": (("XSETID", KEYS.stream, "9999999999999-0"),),
}
HARMLESS = {"deletes the ledger", "destroys the group", "sets the last id ahead"}


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_an_intruder(scene, tell, intruder):
    with scene() as here, raw_redis(here.redis.url) as client:
        load = here.load(rate=1_000)
        worker = here.worker()
        until(lambda: keeps_up(here, load))
        with held(worker):
            since = time.time()
            time.sleep(0.5)
            for command in INTRUDERS[intruder]:
                client.execute_command(*command)
            time.sleep(0.2)
        time.sleep(1)
        load.stop()
        outcome = here.outcome()
        if intruder in HARMLESS:
            outcome.check()
        else:
            assert outcome.lost
            assert outcome.lost <= accepted_since(load, since - MARGIN_SECONDS)
            outcome.check(lost=len(outcome.lost))
            assert missing(outcome) == len(outcome.lost)
            said = here.run("worker", "--once").stderr
            assert f"do not balance: {len(outcome.lost)} events" in said
        tell(14, f"Redis: an intruder {intruder}", outcome)


def test_a_replica_that_is_behind_takes_over(scene, tell, tmp_path):
    behind = 1.0
    replica = RedisServer(tmp_path / "replica")
    with scene() as here, Proxy(here.redis.port) as proxy, Proxy(here.redis.port) as line:
        replica.start()
        try:
            with raw_redis(replica.url) as client:
                client.replicaof(HOST, line.port)
                until(lambda: client.info("replication")["master_link_status"] == "up")
            here.settings = dataclasses.replace(
                here.settings, redis_url=here.redis.url.replace(str(here.redis.port), str(proxy.port))
            )
            load = here.load(rate=1_000)
            worker = here.worker()
            until(lambda: keeps_up(here, load))
            line.blackhole()
            since = time.time()
            time.sleep(behind / 2)
            with held(worker):
                time.sleep(behind / 2)
                here.redis.kill()
                here.redis = replica
                line.break_connections()
                with raw_redis(replica.url) as client:
                    client.replicaof("NO", "ONE")
                proxy.turn_to(replica.port)
            time.sleep(2)
            load.stop()
            outcome = here.outcome()
            assert outcome.lost
            assert outcome.lost <= accepted_since(load, since - MARGIN_SECONDS)
            outcome.check(lost=len(outcome.lost))
            assert missing(outcome) == len(outcome.lost)
            assert "came back without the last events" in worker.log.read_text()
            tell(15, "Redis: a replica takes over, a second behind", outcome)
        finally:
            replica.stop()
