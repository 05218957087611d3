"""Delivery in the background: a bounded buffer, one thread, and an exporter that may fail."""

import logging
import os
import random
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
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
_chance: Final = random.SystemRandom()
"""Not the generator that the application may have seeded, nor one that forked processes have in common."""
_ATTEMPTS_AT_A_BUG: Final = 3
"""How often a batch is tried that fails in a way nobody foresaw, before it is given up."""
_REFILL_SECONDS: Final = 0.5
"""Between two refills at most, however long events wait for company: metrics do not wait for it."""
_LAST_MOMENT_SECONDS: Final = 0.1
"""More than a thread needs to end that was only waiting to try again."""
_QUIET_SECONDS: Final = 60.0
"""Between two complaints at least: a stream at its mark refuses, takes one entry, and refuses again."""


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
        """Close connections; the next `send` makes new ones, also in a forked child."""


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
    event at the latest. After a fork the child begins empty: what the parent holds is the parent's to
    deliver.
    """

    # Begun anew in a forked child.
    _changed: threading.Condition
    _buffer: deque[Event]
    _offered: int
    _settled: int
    _dropped: Counter[str]
    _thread: threading.Thread | None
    _flushes: int
    _closed: bool
    _abandoned: bool
    _complained: bool
    _quiet_until: float

    def __init__(
        self,
        exporter: EventExporter,
        *,
        buffer_size: int,
        batch_size: int,
        interval_seconds: float,
        observer: DeliveryObserver | None = None,
        refill: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs yet.

        Args:
            exporter: Where events go; from now on used by this object alone.
            buffer_size: Events held at most, those being sent included.
            batch_size: Events sent at once at most.
            interval_seconds: How long an event waits for company at most.
            observer: Who is told what becomes of events.
            refill: Has whoever holds events back offer them; called by the thread before it takes a batch,
                every half second at least, and by `flush` and `close`. It may not raise.
        """
        self._exporter = exporter
        self._buffer_size = buffer_size
        self._batch_size = batch_size
        self._interval = interval_seconds
        self._observer: DeliveryObserver = observer or NoObserver()
        self._refill = refill
        self._begin()
        _deliveries.add(self)

    @property
    def is_running(self) -> bool:
        """Whether the thread is there to call `refill`, and events are taken."""
        return self._thread is not None and not self._closed

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._changed:
            if self._thread is None:
                self._start()

    def offer(self, *events: Event) -> int:
        """Take events for delivery; returns at once.

        Returns:
            How many were taken. Where the buffer is full or the delivery closed, the others are dropped and
            counted.
        """
        with self._changed:
            room = 0 if self._closed else self._buffer_size - (self._offered - self._settled)
            taken = min(len(events), room)
            if taken:
                was = len(self._buffer)
                self._buffer.extend(events[:taken])
                self._offered += taken
                if was < self._batch_size <= was + taken:
                    self._changed.notify_all()
                if self._thread is None:
                    self._start()
            dropped = len(events) - taken
            if not dropped:
                return taken
            reason = SHUTDOWN if self._closed else BUFFER_FULL
            self._dropped[reason] += dropped
        self._observer.dropped(reason, dropped)
        return taken

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything offered so far is delivered or given up.

        Returns:
            False where that took longer than allowed.
        """
        self._refill()
        with self._changed:
            target = self._offered
            self._flushes += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._settled >= target, timeout_seconds)
            finally:
                self._flushes -= 1

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what is there within the time allowed, drop the rest, and end the thread.

        Returns:
            False where the thread is not through with its last attempt yet, so that the exporter is in use.
        """
        self._refill()
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(0.0 if self._abandoned else timeout_seconds)
        with self._changed:
            left = self._offered - self._settled
            self._settled = self._offered
            self._abandoned = True
            self._changed.notify_all()
        if left:
            self._observer.dropped(SHUTDOWN, left)
            _log.warning(
                "otel-analytics: %d events could not be delivered before the application ended", left
            )
        if thread is not None:
            thread.join(_LAST_MOMENT_SECONDS)
        self._refill()  # what came in between is dropped now, and counted
        return thread is None or not thread.is_alive()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._buffer = deque()
        self._offered = 0
        self._settled = 0
        self._dropped = Counter()
        self._thread = None
        self._flushes = 0
        self._closed = False
        self._abandoned = False
        self._complained = False
        self._quiet_until = 0.0

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otel-analytics-delivery", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads to be had; the next event tries again.
            self._complain("otel-analytics: no thread to deliver events: %s", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        # What the exporter does is no business of the application's traces.
        suppress = context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - what the SDK's own processors set
        context.attach(context.set_value(suppress, value=True))
        while (batch := self._next_batch()) is not None:
            self._deliver(batch)
        self._exporter.disconnect()

    def _next_batch(self) -> list[Event] | None:
        """Wait for company, then take a batch: empty where only drops are to be reported; None at the end."""
        due = time.monotonic() + self._interval
        while not self._abandoned:
            with self._changed:
                left = max(0.0, due - time.monotonic())
                self._changed.wait_for(self._is_urgent, min(left, _REFILL_SECONDS))
            self._refill()
            with self._changed:
                if time.monotonic() < due and not self._is_urgent():
                    continue
                if self._buffer or self._dropped:
                    size = min(len(self._buffer), self._batch_size)
                    return [self._buffer.popleft() for _ in range(size)]
                if self._closed:
                    break
                due = time.monotonic() + self._interval
        return None

    def _is_urgent(self) -> bool:
        if self._closed or len(self._buffer) >= self._batch_size:
            return True
        return bool(self._flushes and self._buffer)

    def _deliver(self, batch: list[Event]) -> None:
        """Try until the batch is delivered or given up."""
        failures = surprises = 0
        # The same each time: an attempt that was not answered may have been delivered all the same.
        with self._changed:
            report = dict(self._dropped)
        while not self._abandoned:
            self._refill()  # for the sake of metrics, which must not wait until an outage is over
            self._observer.buffered(self._offered - self._settled)
            try:
                rejected = self._exporter.send(batch, report)
            except OtelAnalyticsError as error:
                reason, waiting = str(error).rstrip("."), self._offered - self._settled
                self._complain("otel-analytics: %s; %d events wait and are tried again", reason, waiting)
            except BaseException as error:  # noqa: BLE001 - a bug must neither end the thread nor hold up what comes behind
                surprises += 1
                if surprises == _ATTEMPTS_AT_A_BUG:
                    self._complain(
                        "otel-analytics: %d events cannot be delivered and are dropped", len(batch), bug=error
                    )
                    self._settle(batch, {EXPORT_FAILED: len(batch)} if batch else {}, {})
                    return
            else:
                self._settle(batch, rejected, report)
                if self._complained:
                    self._complained = False
                    _log.info("otel-analytics: events are being delivered again")
                return
            failures += 1
            self._pause(failures)

    def _settle(
        self, batch: Sequence[Event], dropped: Mapping[str, int], reported: Mapping[str, int]
    ) -> None:
        with self._changed:
            if self._abandoned:  # and counted as dropped
                return
            self._settled += len(batch)
            self._dropped.subtract(reported)
            self._dropped.update(dropped)
            self._dropped = +self._dropped
            self._changed.notify_all()
        for reason, events in dropped.items():
            self._observer.dropped(reason, events)
        accepted = len(batch) - sum(dropped.values())
        if accepted:
            self._observer.accepted(accepted)
        self._observer.buffered(self._offered - self._settled)

    def _complain(self, text: str, *values: object, bug: BaseException | None = None) -> None:
        """Warn once in an outage, and not too often where there are many short ones."""
        now = time.monotonic()
        if not self._complained and now >= self._quiet_until:
            self._complained = True
            self._quiet_until = now + _QUIET_SECONDS
            _log.warning(text, *values, exc_info=bug)

    def _pause(self, failures: int) -> None:
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
        # So that processes do not come back in step.
        pause = longest * _chance.uniform(0.5, 1.0)
        with self._changed:
            # Who waits for the end of it makes it shorter, but not so short that it becomes a busy loop.
            self._changed.wait_for(lambda: self._abandoned, min(pause, _FIRST_PAUSE_SECONDS))
            self._changed.wait_for(
                lambda: self._closed or self._flushes, max(0.0, pause - _FIRST_PAUSE_SECONDS)
            )


_deliveries: "weakref.WeakSet[Delivery]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for delivery in list(_deliveries):
        delivery._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
