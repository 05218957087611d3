"""What our span exporters have in common: spans become events, and one attempt is made to deliver them."""

import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.privacy import Privacy
from otel_analytics.record import Event
from otel_analytics.settings import Settings, load
from otel_analytics_exporters.delivery import EXPORT_FAILED
from otel_analytics_exporters.spans import event_from_span

_log = logging.getLogger(__name__)


class EventSpanExporter(SpanExporter):
    """A span exporter that keeps only the events of HTTP requests.

    Under `Delivery`, which retries, counts drops and sees every request, `send` is all that is used. Under a
    span processor of OpenTelemetry's SDK, which forgets a batch that failed, `export` counts what was lost
    and reports it with the next batch that gets through, or at the shutdown.
    """

    # Begun anew in a forked child.
    _lock: threading.Lock
    _lost: Counter[str]
    _complained: bool

    def __init__(self, settings: Settings | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: Those of the environment where None.

        Raises:
            SettingsError: They cannot be used.
        """
        self.settings: Final = settings or load()
        self._privacy = Privacy(self.settings)
        self._excluded = frozenset({*self.settings.excluded_paths, self.settings.metrics_path})
        self._begin()
        _exporters.add(self)

    def send(self, events: Sequence[Event], dropped: Mapping[str, int]) -> Mapping[str, int]:
        """Deliver events; see `delivery.EventExporter`."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Let go of connections; see `delivery.EventExporter`."""
        raise NotImplementedError

    def forget_connections(self) -> None:
        """Let go of connections without a word to the other side: after a fork they are the parent's."""
        raise NotImplementedError

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Deliver the events of the spans; of those that are an HTTP request to a path that is not excluded.

        Returns:
            FAILURE where they could not be delivered. It never raises.
        """
        events: list[Event] = []
        with self._lock:
            try:
                events = [event for span in spans if (event := self._event(span))]
                if events:
                    self._send(events)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to end the processor's thread
                self._lost[EXPORT_FAILED] += len(events)
                self._complain(error)
                return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Report what was lost, if that is still to be done, and close the connection.

        An export afterwards opens it anew.
        """
        with self._lock:
            if self._lost:
                try:
                    self._send([])
                except Exception as error:  # noqa: BLE001 - the application ends; nobody could do anything about it
                    self._complain(error)
            self.disconnect()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing is held back, so there is nothing to flush."""
        return True

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lost = Counter()
        self._complained = False

    def _after_fork(self) -> None:
        self._begin()
        self.forget_connections()

    def _event(self, span: ReadableSpan) -> Event | None:
        event = event_from_span(span, self._privacy)
        if event is None or event.route_full.partition("?")[0] in self._excluded:
            return None
        return event

    def _send(self, events: Sequence[Event]) -> None:
        report = dict(self._lost)
        rejected = self.send(events, report)
        self._lost.subtract(report)
        self._lost.update(rejected)
        self._lost = +self._lost
        self._complained = False

    def _complain(self, error: Exception) -> None:
        if self._complained:
            return
        self._complained = True
        expected = isinstance(error, OtelAnalyticsError)
        _log.warning(
            "otel-analytics: events of spans were lost: %s", error, exc_info=None if expected else error
        )


_exporters: "weakref.WeakSet[EventSpanExporter]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for exporter in list(_exporters):
        exporter._after_fork()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
