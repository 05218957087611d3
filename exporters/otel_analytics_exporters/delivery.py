"""Delivery in the background: a bounded buffer, one thread, and an exporter that may fail."""

import logging
import os
import random
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from opentelemetry import context

from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.record import Event

_log = logging.getLogger(__name__)

BUFFER_FULL: Final = "buffer_full"
SHUTDOWN: Final = "shutdown"
EXPORT_FAILED: Final = "export_failed"
REJECTED: Final = "rejected"

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_chance: Final = random.Random()  # noqa: S311 - not the generator that the application may have seeded
_ATTEMPTS_AT_A_BUG: Final = 3
"""How often a batch is tried that fails in a way nobody foresaw, before it is given up."""


class EventExporter(Protocol):
    """Where a delivery goes. Used by one thread at a time."""

    def send(self, events: Sequence[Event], dropped: Mapping[str, int]) -> Mapping[str, int]:
        """Deliver the events, and report those given up since the last call that succeeded.

        Args:
            events: May be empty where there is only something to report.
            dropped: Reason to number of events given up.

        Returns:
            Reason to number of those among `events` that can never be delivered.

        Raises:
            OtelAnalyticsError: Not now; sending the same again is right, with the same ids.
        """

    def disconnect(self) -> None:
        """Close connections; the next `send` makes new ones."""

    def forget_connections(self) -> None:
        """Let go of connections without a word to the other side: after a fork they are the parent's."""


class DeliveryObserver(Protocol):
    """Who wants to know what becomes of events; called from several threads, and may not raise."""

    def accepted(self, events: int) -> None:
        """So many were delivered."""

    def dropped(self, reason: str, events: int) -> None:
        """So many were given up."""

    def buffered(self, events: int) -> None:
        """So many wait."""


class NoObserver:
    """Nobody wants to know."""

    def accepted(self, events: int) -> None:
        """Nothing."""

    def dropped(self, reason: str, events: int) -> None:
        """Nothing."""

    def buffered(self, events: int) -> None:
        """Nothing."""


class Delivery:
    """Takes events from any thread without waiting, and delivers them from a thread of its own.

    An event is delivered, or counted as dropped: because the buffer was full, because it can never be
    delivered, or because the time to stop was over. It is never reordered, and a batch that failed is sent
    again with the same ids, so that whoever stores them recognises them. The thread starts with the first
    event. After a fork the child begins empty: what the parent holds is the parent's to deliver.
    """

    # Begun anew in a forked child.
    _lock: threading.Lock
    _wake: threading.Event
    _buffer: deque[Event]
    _in_hand: int
    _thread: threading.Thread | None
    _closed: bool
    _abandoned: bool
    _hurry: bool
    _surprises: int
    _unreported: Counter[str]

    def __init__(
        self,
        exporter: EventExporter,
        *,
        buffer_size: int,
        batch_size: int,
        interval_seconds: float,
        observer: DeliveryObserver | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            exporter: Where events go; from now on used by this object alone.
            buffer_size: Events held at most, those being sent included.
            batch_size: Events sent at once at most.
            interval_seconds: How long an event waits for company.
            observer: Who is told what becomes of events.
        """
        self._exporter = exporter
        self._buffer_size = buffer_size
        self._batch_size = batch_size
        self._interval = interval_seconds
        self._observer: DeliveryObserver = observer or NoObserver()
        self._begin()
        _deliveries.add(self)

    def offer(self, event: Event) -> bool:
        """Take an event for delivery; returns at once.

        Returns:
            False where the buffer was full, so that the event is dropped and counted.
        """
        waiting = len(self._buffer)
        if waiting + self._in_hand >= self._buffer_size or self._closed:
            self._drop(SHUTDOWN if self._closed else BUFFER_FULL, 1)
            return False
        self._buffer.append(event)
        if waiting + 1 == self._batch_size:
            self._wake.set()
        if self._thread is None:
            self._start()
        return True

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything offered so far is delivered or given up.

        Returns:
            False where that took longer than allowed.
        """
        deadline = time.monotonic() + timeout_seconds
        self._hurry = True
        try:
            while self._buffer or self._in_hand:
                self._wake.set()
                if time.monotonic() >= deadline or self._thread is None:
                    return False
                time.sleep(0.005)
        finally:
            self._hurry = False
        return True

    def close(self, timeout_seconds: float) -> None:
        """Deliver what is there within the time allowed, drop the rest, and end the thread."""
        with self._lock:
            thread, already = self._thread, self._closed
            self._closed = True
        if already:
            return
        if thread is not None:
            self._wake.set()
            thread.join(timeout_seconds)
        left = len(self._buffer) + self._in_hand
        self._abandoned = True
        self._wake.set()
        if left:
            self._drop(SHUTDOWN, left)
            _log.warning("%d events could not be delivered before the application ended", left)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._buffer = deque()
        self._in_hand = 0
        self._thread = None
        self._closed = False
        self._abandoned = False
        self._hurry = False
        self._surprises = 0
        self._unreported = Counter()

    def _after_fork(self) -> None:
        self._begin()
        self._exporter.forget_connections()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="otel-analytics-delivery", daemon=True)
                thread.start()
                self._thread = thread

    def _drop(self, reason: str, events: int) -> None:
        with self._lock:
            self._unreported[reason] += events
        self._observer.dropped(reason, events)

    def _run(self) -> None:
        # What the exporter does is no business of the application's traces.
        suppress = context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - what the SDK's own processors set
        context.attach(context.set_value(suppress, value=True))
        batch: list[Event] = []
        failures = 0
        while not self._abandoned:
            if not batch:
                self._wait_for_company()
                batch = self._take()
            if not batch and self._closed:
                break
            if not batch and not self._unreported:
                continue
            if self._deliver(batch, failures):
                if failures:
                    _log.info("events are being delivered again")
                batch, failures = [], 0
            else:
                failures += 1
                self._pause(failures)
        if self._unreported and not self._abandoned:
            self._deliver([], failures)
        self._exporter.disconnect()

    def _wait_for_company(self) -> None:
        if len(self._buffer) < self._batch_size and not self._closed and not self._hurry:
            self._wake.wait(self._interval)
        self._wake.clear()

    def _take(self) -> list[Event]:
        batch: list[Event] = []
        buffer = self._buffer
        while buffer and len(batch) < self._batch_size:
            # Counted in both places for a moment rather than in neither.
            self._in_hand += 1
            batch.append(buffer.popleft())
        self._observer.buffered(len(buffer) + len(batch))
        return batch

    def _deliver(self, batch: list[Event], failures: int) -> bool:
        with self._lock:
            report = dict(self._unreported)
        try:
            rejected = self._exporter.send(batch, report)
        except OtelAnalyticsError as error:
            self._complain(error, failures)
            return False
        except Exception as error:  # noqa: BLE001 - a bug must neither end the thread nor hold up what comes behind
            self._surprises += 1
            if self._surprises < _ATTEMPTS_AT_A_BUG:
                self._complain(error, failures)
                return False
            _log.error("%d events cannot be delivered and are dropped", len(batch), exc_info=error)
            rejected, report = {EXPORT_FAILED: len(batch)}, {}
        self._surprises = 0
        with self._lock:
            self._unreported.subtract(report)
            self._unreported = +self._unreported
        for reason, events in rejected.items():
            self._drop(reason, events)
        self._in_hand = 0
        accepted = len(batch) - sum(rejected.values())
        if accepted:
            self._observer.accepted(accepted)
        return True

    def _complain(self, error: Exception, failures: int) -> None:
        if not failures:
            waiting = len(self._buffer) + self._in_hand
            reason = str(error) or type(error).__name__
            _log.warning("%s; %d events wait and are tried again", reason, waiting)

    def _pause(self, failures: int) -> None:
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
        # So that processes do not come back in step.
        pause = longest * _chance.uniform(0.5, 1.0)
        deadline = time.monotonic() + pause
        while not self._abandoned and time.monotonic() < deadline:
            if self._closed or self._hurry:
                time.sleep(_FIRST_PAUSE_SECONDS)
                return
            self._wake.wait(min(0.2, pause))
            self._wake.clear()


_deliveries: "weakref.WeakSet[Delivery]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for delivery in list(_deliveries):
        delivery._after_fork()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
