"""The worker's duties as plain functions, for schedulers such as Celery beat that already run elsewhere.

Each call connects, does what there is to do, and returns. They may overlap with each other and with running
workers.
"""

import threading
from dataclasses import dataclass

from otel_analytics.maintenance import Maintained
from otel_analytics.settings import Settings, load
from otel_analytics.worker import Worker


@dataclass(frozen=True)
class TransferResult:
    """What became of the events on the stream.

    Attributes:
        stored: Events stored.
        duplicates: Events that were stored before.
        dead: Events that went to the dead letters.
    """

    stored: int
    duplicates: int
    dead: int


def transfer(settings: Settings | None = None) -> TransferResult:
    """Move everything that is on the stream now into the raw table.

    Args:
        settings: Those of the environment where None.

    Raises:
        OtelAnalyticsError: A server does not answer or is not as it must be; nothing is lost.
    """
    with Worker(settings or load()) as worker:
        worker.start()
        events = worker.drain(threading.Event())
        worker.trim()
    return TransferResult(events.stored, events.duplicates, events.dead)


def rollup(settings: Settings | None = None) -> int:
    """Recompute the hourly figures of all hours that changed; returns how many hours.

    Args:
        settings: Those of the environment where None.

    Raises:
        OtelAnalyticsError: A server does not answer or is not as it must be; nothing is lost.
    """
    with Worker(settings or load()) as worker:
        return worker.rollup(threading.Event())


def maintain(settings: Settings | None = None) -> Maintained:
    """Make partitions ahead and take away what is older than its retention.

    Args:
        settings: Those of the environment where None.

    Raises:
        OtelAnalyticsError: A server does not answer or is not as it must be; nothing is lost.
    """
    with Worker(settings or load()) as worker:
        return worker.maintain()
