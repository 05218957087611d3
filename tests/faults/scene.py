"""A producer, Redis, workers and PostgreSQL, all real; what was accepted is known by its ids.

The promise that is checked (`Outcome.check`): the ids that Redis accepted are those that are stored or dead,
no id is there twice, the hourly figures are those of the raw rows, and nothing is pending.
"""

import dataclasses
import datetime as dt
import gc
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

from backend import raw_postgres, raw_redis
from fault_servers import PostgresServer, RedisServer
from program import PROGRAM
from waiting import until

from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store.migrations import migrate
from otel_analytics.stream.keys import GROUP, Keys
from otel_analytics_exporters.delivery import Delivery
from otel_analytics_exporters.postgres import PostgresSpanExporter
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

KEYS = Keys.of("route_analytics")
GRACE_SECONDS = 60
"""For the pipeline to come back and to drain once the fault is over."""
ROUTES = ("/home", "/items/{id}", "/search", "/orders/{id}")

_HOURLY = """
    SELECT "timestamp", route, method, query_params_normalized::text, total_requests, server_errors,
        total_duration_seconds::numeric(20, 6)
    FROM route_analytics_hourly ORDER BY 1, 2, 3, 4
"""
_HOURS_OF_RAW = """
    SELECT date_trunc('hour', "timestamp", 'UTC'), route, method, query_params_normalized::text, count(*),
        count(*) FILTER (WHERE status_code >= 500), (sum(duration_ms::numeric) / 1000)::numeric(20, 6)
    FROM route_analytics GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


class _Logging:
    """Writes down the ids of what was accepted, and when."""

    def __init__(self, settings):
        super().__init__(settings)
        self.accepted = {}

    def send(self, events, dropped):
        rejected = super().send(events, dropped)
        now = time.time()
        self.accepted |= dict.fromkeys((event.event_id for event in events), now)
        return rejected


class LoggingExporter(_Logging, RedisStreamSpanExporter):
    """Accepted means that Redis said so."""


class LoggingPostgresExporter(_Logging, PostgresSpanExporter):
    """Accepted means that PostgreSQL has committed, and that the answer was seen."""


class Load:
    """Offers events from a thread of its own, at a steady rate.

    Attributes:
        exporter: Knows what was accepted.
        offered: Ids of all events so far.
        dropped: Reason to number of events that the delivery gave up.
        slowest_offer: Seconds that the slowest call took, as a request would feel it.
    """

    def __init__(self, settings, *, rate, make=None, **options):
        exporters = {"redis": LoggingExporter, "postgres": LoggingPostgresExporter}
        self.exporter = exporters[settings.exporter](settings)
        self.offered = set()
        self.dropped = {}
        self.slowest_offer = 0.0
        self._make = make or make_event
        self._rate = rate
        self._delivery = Delivery(
            self.exporter,
            **{"buffer_size": 50_000, "batch_size": 50, "interval_seconds": 0.02} | options,
            observer=_Drops(self.dropped),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self, *, flush_seconds=GRACE_SECONDS):
        """Offer nothing more, and wait until all is delivered or given up."""
        self._stop.set()
        self._thread.join()
        self._delivery.flush(flush_seconds)
        self._delivery.close(1)

    def _run(self):
        began = time.monotonic()
        number = 0
        while not self._stop.wait(0.005):
            while number < (time.monotonic() - began) * self._rate:
                event = self._make(number)
                self.offered.add(event.event_id)
                called = time.perf_counter()
                self._delivery.offer(event)
                self.slowest_offer = max(self.slowest_offer, time.perf_counter() - called)
                number += 1


class _Drops:
    """Told by the delivery what becomes of events."""

    def __init__(self, dropped):
        self._dropped = dropped

    def accepted(self, events):
        """The exporter knows which."""

    def dropped(self, reason, events):
        """Given up."""
        self._dropped[reason] = self._dropped.get(reason, 0) + events

    def buffered(self, events):
        """Of no interest here."""


def make_event(number, **fields):
    """A request of just now, with an id of its own."""
    values = {
        "event_id": os.urandom(16).hex(),
        "timestamp_us": time.time_ns() // 1_000,
        "route": ROUTES[number % len(ROUTES)],
        "route_full": ROUTES[number % len(ROUTES)],
        "method": "GET",
        "status_code": 500 if number % 50 == 0 else 200,
        "duration_ms": 1.0 + number % 100,
        "user_id": f"user{number % 40}",
        "query_params": {"q": str(number % 7)},
        "query_params_normalized": {"q": str(number % 7)},
    }
    return Event(**values | fields)


@dataclasses.dataclass
class Outcome:
    """What became of the events, in ids.

    Attributes:
        accepted: Redis said so.
        stored: In the raw table.
        dead: Among the dead letters.
        dropped: Reason to number of events given up before.
        duplicates: Rows beyond the first of an id.
        pending: Entries that no worker is through with.
        rollup_differs: Hourly rows that are not what the raw rows say.
        longest_stall: Seconds without a commit, between the first event and the last.
        audit: What `otel-analytics audit` says.
        offered: All that applications had.
    """

    accepted: set
    stored: set
    dead: set
    dropped: dict
    duplicates: int
    pending: int
    rollup_differs: list
    longest_stall: float
    audit: dict

    offered: set

    @property
    def lost(self):
        """Accepted, and neither stored nor dead."""
        return self.accepted - self.stored - self.dead

    def check(self, *, dead=0, lost=0):
        """The promise holds.

        Args:
            dead: How many dead letters there have to be.
            lost: How many accepted events may be missing, where the fault takes what Redis held. They have
                to be in the books.
        """
        assert len(self.lost) <= lost, f"{len(self.lost)} lost"
        # What an application sent and heard no answer for may be stored without having been accepted.
        assert self.stored <= self.offered
        assert not self.stored & self.dead
        assert len(self.dead) == dead
        assert self.duplicates == 0
        assert self.pending == 0
        assert self.rollup_differs == []
        if not self.lost:
            assert self.audit["balanced"], self.audit


class Scene:
    """The whole pipeline in a directory; a `with` block long."""

    def __init__(self, directory, *, redis=None, postgres=None, **settings):
        self.directory = Path(directory)
        self.redis = redis or RedisServer(self.directory / "redis")
        self.postgres = postgres or PostgresServer(self.directory / "postgres")
        self.workers = []
        self.loads = []
        self._given = settings
        self._stack = ExitStack()

    def __enter__(self):
        # Looking for garbage among all that earlier tests have left takes long, and would look like waiting.
        gc.collect()
        gc.freeze()
        self._stack.callback(gc.unfreeze)
        for server in (self.redis, self.postgres):
            self._stack.callback(server.stop)
            server.start()
        migrate(self.postgres.url)
        self.settings = Settings(
            **{
                "redis_url": self.redis.url,
                "postgres_dsn": self.postgres.url,
                "worker_metrics_port": 0,
                "claim_idle_seconds": 2.0,
                "rollup_interval_seconds": 1.0,
            }
            | self._given
        )
        self._stack.callback(self._end_workers)
        return self

    def __exit__(self, *_):
        for load in self.loads:
            with suppress(Exception):
                load.stop(flush_seconds=0)
        self._stack.close()

    def load(self, *, rate=1_000, settings=None, **options):
        """Begin to offer events; other settings than those of the scene may say where they go."""
        load = Load(settings or self.settings, rate=rate, **options)
        self.loads.append(load)
        return load

    def worker(self, **settings):
        """Start a worker process of the installed program; settings as arguments of `Settings`."""
        values = {
            name: value
            for name, value in dataclasses.asdict(dataclasses.replace(self.settings, **settings)).items()
            if value != getattr(Settings(), name)
        }
        config = self.directory / f"worker-{len(self.workers)}.toml"
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
        log = config.with_suffix(".log").open("ab")
        process = subprocess.Popen(
            [PROGRAM, "worker"],
            env={"PATH": os.environ["PATH"], "OTEL_ANALYTICS_CONFIG": str(config), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        process.log = config.with_suffix(".log")
        self.workers.append(process)
        return process

    def settled(self):
        """Whether everything accepted is stored or dead, and acknowledged and rolled up."""
        with raw_redis(self.redis.url) as client:
            if not client.exists(KEYS.stream):
                return True
            groups = client.xinfo_groups(KEYS.stream)
            last = client.xinfo_stream(KEYS.stream)["last-generated-id"]
            if not groups or groups[0]["pending"] or groups[0]["last-delivered-id"] != last:
                return False
        with raw_postgres(self.postgres.url) as connection:
            count = "SELECT count(*) FROM route_analytics_touched_hours"
            return connection.execute(count).fetchone()[0] == 0

    def outcome(self, *, wait=GRACE_SECONDS):
        """Wait until all is settled, then compare.

        Args:
            wait: Seconds; 0 where it cannot settle.
        """
        if wait:
            self.drain(wait)
        with raw_redis(self.redis.url) as client:
            pending = client.xpending(KEYS.stream, GROUP)["pending"] if client.exists(KEYS.stream) else 0
            dead = {each for _, fields in client.xrange(KEYS.dead) for each in ids_in(fields)}
        with raw_postgres(self.postgres.url) as connection:
            rows = connection.execute("SELECT event_id, created_at FROM route_analytics").fetchall()
            hourly, raw = (connection.execute(query).fetchall() for query in (_HOURLY, _HOURS_OF_RAW))
        stored = {event_id.hex for event_id, _ in rows}
        moments = sorted({moment for _, moment in rows})
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        return Outcome(
            accepted={each for load in self.loads for each in load.exporter.accepted},
            stored=stored,
            dead=dead,
            dropped=merged(load.dropped for load in self.loads),
            duplicates=len(rows) - len(stored),
            pending=pending,
            rollup_differs=sorted(set(hourly) ^ set(raw), key=str),
            longest_stall=max(gaps, default=dt.timedelta()).total_seconds(),
            audit=self.audit(),
            offered={each for load in self.loads for each in load.offered},
        )

    def drain(self, seconds=GRACE_SECONDS):
        """Wait until all is settled; a worker has to run."""
        until(self._settled_or_down, seconds)

    def _settled_or_down(self):
        with suppress(Exception):
            return self.settled()
        return False

    def audit(self):
        """The books, as the program tells them."""
        done = self.run("audit", "--format", "json")
        return json.loads(done.stdout)

    def run(self, *arguments):
        """A command of the installed program with the settings of the scene."""
        return subprocess.run(
            [PROGRAM, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "OTEL_ANALYTICS_REDIS_URL": self.settings.redis_url,
                "OTEL_ANALYTICS_POSTGRES_DSN": self.settings.postgres_dsn,
            },
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _end_workers(self):
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def ids_in(fields):
    """The ids of the events in a dead letter, those of them that can be read."""
    try:
        events = json.loads(fields[b"events"])
    except (KeyError, ValueError, RecursionError):
        return []
    return [event[0] for event in events if isinstance(event, list) and event and isinstance(event[0], str)]


def merged(counts):
    """The sums of several counts."""
    total = {}
    for each in counts:
        for name, number in each.items():
            total[name] = total.get(name, 0) + number
    return total
