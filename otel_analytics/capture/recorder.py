"""From requests that are over to events that are counted and on their way."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from otel_analytics.capture.ended import Ended
from otel_analytics.capture.event import event_of
from otel_analytics.privacy import Privacy
from otel_analytics_exporters.delivery import Delivery

if TYPE_CHECKING:
    from otel_analytics.live.metrics import LiveMetrics, PipelineMetrics

_log = logging.getLogger(__name__)


class Recorder:
    """Makes the events of one application in one process. Nothing it does raises.

    It knows nothing of the application, which may be gone while the thread of the delivery still calls it.

    Attributes:
        live: Counts requests; None for not at all.
        pipeline: Counts errors; None for not at all.
        delivery: Where events go; None before there is one.
    """

    def __init__(self, privacy: Privacy) -> None:
        """There is nothing to count with yet, and nowhere to go.

        Args:
            privacy: What may be stored.
        """
        self._privacy = privacy
        self._complained = False
        self.live: LiveMetrics | None = None
        self.pipeline: PipelineMetrics | None = None
        self.delivery: Delivery | None = None

    def record(self, ended: Sequence[Ended]) -> None:
        """Count requests, and have their events delivered."""
        events = []
        for each in ended:
            try:
                event = event_of(each, self._privacy)
                if self.live is not None:
                    sampled = each.trace is not None and each.trace.trace_flags.sampled
                    self.live.observe(event, sampled=sampled)
                events.append(event)
            except Exception as error:  # noqa: BLE001
                self.failed(error)
        if self.delivery is not None:
            self._guarded(partial(self.delivery.offer, *events))
        if self.live is not None:
            self._guarded(self.live.count_active)

    def failed(self, error: BaseException) -> None:
        """Count an error of ours, and log it the first time."""
        if self.pipeline is not None:
            self.pipeline.capture_error()
        if not self._complained:
            self._complained = True
            _log.error(
                "otel-analytics: a request could not be recorded; further errors are only counted",
                exc_info=error,
            )

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001
            self.failed(error)
