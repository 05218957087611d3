"""The worker: drains the stream, rolls up, keeps partitions and retention, and waits out outages."""

import datetime as dt
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry, start_http_server

from otel_analytics.analyze import absolute
from otel_analytics.analyze.candidates import candidates
from otel_analytics.errors import SettingsError, StoreUnavailable, StreamUnavailable
from otel_analytics.ingest import Batch, Clock, Ingest, Stored
from otel_analytics.ledger import audit
from otel_analytics.maintenance import Maintained, maintain, partitions_ahead
from otel_analytics.rollup import HOUR, Schedule, rollup_touched
from otel_analytics.settings import Settings, without_password
from otel_analytics.store import hourly, kept_rankings, ledger, migrations, rankings
from otel_analytics.store.connection import Connection, connect
from otel_analytics.stream import Consumer, DeadLetters, Inspector
from otel_analytics.stream.inspector import LAG_LIMIT
from otel_analytics.stream.keys import id_parts
from otel_analytics.worker_metrics import MOST_CANDIDATES, WorkerMetrics

_log = logging.getLogger(__name__)

_BLOCK_SECONDS: Final = 1.0
"""How long a read waits for an entry, and so how long a stop may take to be noticed."""
_OBSERVE_SECONDS: Final = 5.0
_AUDIT_SECONDS: Final = 60.0
_RANK_SECONDS: Final = 300.0
_RANK_AGAIN_SECONDS: Final = 15.0
"""While there is nothing to rank yet."""
_RANK_SHARE: Final = 20
"""A ranking rests this many times as long as it took, so it costs 5 % of the time at most."""
_TRIM_SECONDS: Final = 10.0
_MAINTAIN_SECONDS: Final = 3_600.0
_DAY_SECONDS: Final = 86_400
_REPORT_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 30.0


def utc_now() -> dt.datetime:
    """The present."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Run:
    """What one run did: what became of the events, and how many hours were recomputed."""

    events: Stored
    hours: int


class _Stream:
    """The worker's side of the stream."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.inspector = Inspector(settings.redis_url, key_prefix=settings.key_prefix)
        self.consumer = Consumer(
            settings.redis_url,
            key_prefix=settings.key_prefix,
            claim_idle_seconds=settings.claim_idle_seconds,
        )
        self.letters = DeadLetters(settings.redis_url, key_prefix=settings.key_prefix)
        self.ingest = Ingest(self.consumer, settings, clock)

    def purge_letters(self, retention_days: int) -> None:
        """Discard the dead letters that nobody could replay any more: their events would be too old."""
        oldest = self.inspector.clock() - retention_days * _DAY_SECONDS
        purged = self.letters.purge(self.letters.ids(int(oldest * 1_000)))
        if purged:
            _log.warning(
                "discarded %d dead letters older than raw_retention_days; the ledger counts them as purged",
                purged,
            )

    def close(self) -> None:
        self.ingest.close()
        self.consumer.close()
        self.inspector.close()
        self.letters.close()


class Worker:
    """One worker process. Several may run at once, on one or many machines.

    `run` and `run_once` begin by checking that Redis is safe and that the schema is ours. An outage
    afterwards never costs an event: what is not acknowledged stays on the stream. Where applications write
    straight to PostgreSQL (the setting `exporter`) there is no stream, and rollup and maintenance are all
    there is to do.
    """

    def __init__(
        self, settings: Settings, *, clock: Clock = utc_now, registry: CollectorRegistry | None = None
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: All of them.
            clock: The present.
            registry: Where the worker's metrics go; one of its own where None.

        Raises:
            SettingsError: The Redis URL cannot be used.
        """
        self._settings = settings
        self._clock = clock
        self._registry = registry or CollectorRegistry()
        self._metrics = WorkerMetrics()
        self._registry.register(self._metrics)
        self._stream = _Stream(settings, clock) if settings.exporter == "redis" else None
        self._store: Connection | None = None
        self._in_hand: Batch | None = None
        self._schedule = Schedule(settings.rollup_interval_seconds)
        self._due: dict[str, float] = {}
        self._unreported = Stored()
        self._missing = 0
        self._may_evict = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the consumer group and close all connections."""
        self._registry.unregister(self._metrics)
        if self._stream is not None:
            self._stream.close()
        self._disconnect()

    def start(self) -> None:
        """Check the servers, and take over what killed workers of this host left behind.

        Raises:
            UnsafeStream: Redis may evict the stream.
            NotMigrated: The database lacks tables.
            SchemaTooNew: The database belongs to a newer version.
            StreamUnavailable: Redis does not answer.
            StoreUnavailable: PostgreSQL does not answer.
        """
        if self._stream is not None:
            self._stream.inspector.ensure_safe()
            _log.info("connected to %s", without_password(self._settings.redis_url))
        migrations.check(self._connection())
        _log.info("connected to %s", without_password(self._settings.postgres_dsn))
        self.maintain()
        if self._stream is not None and (orphans := self._stream.consumer.adopt_orphans()):
            _log.info("took over %d entries of workers that were killed", orphans)

    def run_once(
        self, stop: threading.Event | None = None, progress: Callable[[Stored], None] | None = None
    ) -> Run:
        """Do what there is to do and return: drain, roll up, maintain, trim.

        Args:
            stop: Once set, the batch in hand is finished and the rest left.
            progress: Told after each batch what became of the events so far.

        Raises:
            OtelAnalyticsError: As `start` and `Ingest.store`; an outage is raised, not waited out.
        """
        stop = stop or threading.Event()
        self.start()
        events = self.drain(stop, progress)
        hours = self.rollup(stop)
        self.trim()
        self._observe()
        self._audit()
        return Run(events, hours)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then finish the batch in hand. Outages are waited out.

        Raises:
            OtelAnalyticsError: As `start`; later only what waiting cannot mend, such as `PoisonedStream`.
        """
        self.start()
        failures = 0
        with self._metrics_served():
            while not stop.is_set():
                try:
                    self._step(stop)
                except (StoreUnavailable, StreamUnavailable) as error:
                    failures += 1
                    self._wait_out(error, failures, stop)
                else:
                    if failures:
                        _log.info("working again after %d failures", failures)
                    failures = 0
            # Should a server be away now, it stays pending.
            with suppress(StoreUnavailable, StreamUnavailable):
                self._finish()
            self._report()

    def drain(self, stop: threading.Event, progress: Callable[[Stored], None] | None = None) -> Stored:
        """Store everything that is on the stream now, and return what became of it.

        Args:
            stop: Once set, the batch in hand is finished and the rest left.
            progress: Told after each batch what became of the events so far.
        """
        total = Stored()
        if self._stream is None:
            return total
        _, last_id = self._stream.inspector.ledger_and_last_id()
        while not stop.is_set() and (batch := self._stream.ingest.read()):
            # What is older was read before it, so entries that are added meanwhile do not keep this going for
            # ever.
            is_last = id_parts(batch.entries[-1].id) >= id_parts(last_id)
            total += self._store_batch(self._stream.ingest, batch, read_ahead=not (is_last or stop.is_set()))
            if progress is not None:
                progress(total)
            if is_last:
                break
        return total + self._finish()

    def rollup(self, stop: threading.Event) -> int:
        """Recompute all marked hours, the current one included; returns how many."""
        return rollup_touched(self._connection(), self._settings, now=self._clock(), stop=stop.is_set)

    def maintain(self) -> Maintained:
        """Make partitions ahead and take away what is older than its retention."""
        maintained = maintain(self._connection(), self._settings, now=self._clock())
        if self._stream is not None:
            self._stream.purge_letters(self._settings.raw_retention_days)
        return maintained

    def trim(self) -> None:
        """Take entries off the stream that are stored and no longer of interest, and forget their ids."""
        if self._stream is None:
            return
        settings = self._settings
        trimmed = self._stream.consumer.trim(settings.stream_retention_seconds, settings.stream_max_entries)
        epoch = self._stream.inspector.ledger().epoch
        ledger.forget_entries(self._connection(), epoch, trimmed.first_id)

    def _step(self, stop: threading.Event) -> None:
        interval = self._settings.worker_interval_seconds
        idle = True
        if self._stream is not None:
            ingest = self._stream.ingest
            if self._in_hand is None:
                self._in_hand = ingest.read(0.0 if interval else _BLOCK_SECONDS)
            if self._in_hand is not None:
                idle = False
                self._store_batch(ingest, self._in_hand, read_ahead=not stop.is_set())
                self._in_hand = None
        self._keep_house(stop)
        if idle and (interval or self._stream is None):
            stop.wait(interval or _BLOCK_SECONDS)

    def _finish(self) -> Stored:
        """Store what was read ahead when it was time to stop."""
        ingest = self._stream.ingest if self._stream is not None else None
        if ingest is not None and ingest.has_read_ahead and (batch := ingest.read()):
            return self._store_batch(ingest, batch, read_ahead=False)
        return Stored()

    def _store_batch(self, ingest: Ingest, batch: Batch, *, read_ahead: bool) -> Stored:
        began = time.monotonic()
        stored = ingest.store(self._connection(), batch, read_ahead=read_ahead)
        self._metrics.batch_done(stored, time.monotonic() - began)
        self._unreported += stored
        return stored

    def _keep_house(self, stop: threading.Event) -> None:
        self._rollup_if_due(stop)
        if self._is_due("trim", _TRIM_SECONDS):
            self.trim()
        if self._is_due("maintain", _MAINTAIN_SECONDS):
            self.maintain()
        if self._is_due("observe", _OBSERVE_SECONDS):
            self._observe()
        if self._is_due("audit", _AUDIT_SECONDS):
            self._audit()
        self._rank_if_due()
        if self._unreported.entries and self._is_due("report", _REPORT_SECONDS):
            self._report()

    def _rollup_if_due(self, stop: threading.Event) -> None:
        now = self._clock()
        if not self._schedule.is_due(time.monotonic()):
            return
        connection = self._connection()
        rollup_touched(connection, self._settings, now=now, include_current=False, stop=stop.is_set)
        began = time.monotonic()
        self._schedule.done(began)
        if self._schedule.is_current_due(began):
            rollup_touched(connection, self._settings, now=now, stop=stop.is_set)
            ended = time.monotonic()
            self._schedule.current_done(ended, ended - began)

    def _rank_if_due(self) -> None:
        """Rank for the metrics, if somebody can read them."""
        began = time.monotonic()
        if not self._settings.worker_metrics_port or began < self._due.get("rank", float("-inf")):
            return
        self._due["rank"] = began + _RANK_SECONDS  # should it fail
        settings, connection, now = self._settings, self._connection(), self._clock()
        with rankings.reading(connection):
            found = candidates(rankings.patterns(connection, now - dt.timedelta(days=settings.days), now))
        scored = absolute.rank(
            found.figures,
            min_requests=settings.min_requests,
            min_latency=settings.min_latency,
            cache_score_threshold=settings.cache_score_threshold,
        )
        self._metrics.rank(scored[: min(settings.top_n_routes, MOST_CANDIDATES)])
        ended = time.monotonic()
        rest = max(_RANK_SECONDS if scored else _RANK_AGAIN_SECONDS, _RANK_SHARE * (ended - began))
        self._due["rank"] = ended + rest

    def _is_due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, float("-inf")):
            return False
        self._due[what] = now + every_seconds
        return True

    def _observe(self) -> None:
        self._observe_stream()
        self._observe_store()

    def _observe_stream(self) -> None:
        if self._stream is None:
            return
        self._metrics.observe_stream(self._stream.inspector.status())
        server = self._stream.inspector.server_info()
        self._metrics.observe_redis(server)
        if server.may_evict_stream and not self._may_evict:
            # To stop would leave more on the stream for Redis to take; a worker that starts refuses.
            _log.error(
                "Redis was switched to maxmemory-policy %s and may delete the whole stream to make room; set"
                " it back to noeviction. Until then, events are stored as long as there are any",
                server.eviction_policy,
            )
        self._may_evict = server.may_evict_stream

    def _audit(self) -> None:
        """Look for events that are missing, unless so many wait that counting them would hold up the rest."""
        if self._stream is None:
            return
        status = self._stream.inspector.status()
        if status.pending + status.undelivered >= LAG_LIMIT:
            return
        report = audit(self._stream.inspector, self._connection())
        missing = report.difference + report.lost_in_earlier_epochs
        self._metrics.observe_audit(missing)
        if missing != self._missing:
            _log.warning(
                "the books do not balance: %d events were accepted and are neither stored nor dead nor on the"
                " stream, those of earlier epochs included; otel-analytics audit has the figures",
                missing,
            )
        self._missing = missing

    def _observe_store(self) -> None:
        connection, now = self._connection(), self._clock()
        hours = hourly.touched_hours(connection)
        age = (now - hours[0] - HOUR).total_seconds() if hours else 0.0
        ahead = partitions_ahead(connection, now=now)
        kept = kept_rankings.latest(connection)
        self._metrics.observe_tables(
            rollup_age_seconds=max(0.0, age),
            partitions_ahead=ahead,
            rankings_kept=None if kept is None else kept.timestamp(),
        )
        self._metrics.observe_ledger(ledger.rows(connection), ledger.drops_ever(connection))

    def _report(self) -> None:
        """Say what became of the events since the last report, if there were any."""
        done, self._unreported = self._unreported, Stored()
        if done.entries:
            _log.info("events: %d stored, %d duplicates, %d dead", done.stored, done.duplicates, done.dead)

    def _wait_out(self, error: Exception, failures: int, stop: threading.Event) -> None:
        log = _log.warning if failures == 1 else _log.debug
        log("%s; trying again until it works", error)
        self._metrics.failed(self._clock().timestamp())
        # The figures of the other server stay true: just then somebody looks at them.
        if isinstance(error, StoreUnavailable):
            self._disconnect()
            observe = self._observe_stream
        else:
            observe = self._observe_store
            # The entries stay pending and come again. To hold on to them could mean to wait for a stream that
            # is gone.
            self._in_hand = None
            if self._stream is not None:
                self._stream.ingest.forget_ahead()
            # A Redis that is full refuses dead letters, and only this makes room for them.
            if self._is_due("trim", _TRIM_SECONDS):
                with suppress(StoreUnavailable, StreamUnavailable):
                    self.trim()
        if self._is_due("observe", _OBSERVE_SECONDS):
            with suppress(StoreUnavailable, StreamUnavailable):
                observe()
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
        stop.wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 - so that workers do not come back in step

    def _connection(self) -> Connection:
        if self._store is None or self._store.closed:
            self._store = connect(self._settings.postgres_dsn, unattended=True)
        return self._store

    def _disconnect(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    @contextmanager
    def _metrics_served(self) -> Iterator[None]:
        host, port = self._settings.worker_metrics_host, self._settings.worker_metrics_port
        if not port:
            yield
            return
        try:
            server, thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise SettingsError(
                f"setting worker_metrics_port: cannot serve metrics on {host}:{port}: {error.strerror};"
                " choose another port, or 0 for none"
            ) from error
        _log.info("serving metrics on http://%s:%d/metrics", host, port)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
