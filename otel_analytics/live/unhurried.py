"""Metrics whose samples are made when they are written down, one after the other.

A large application has tens of thousands. Made all at once they keep the garbage collector busy for so long
that requests notice; and whoever makes them without a break lets the event loop wait for each of its turns.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, cast

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

_BETWEEN_BREAKS: Final = 20
"""Samples; they take about a fifth of a millisecond."""


def unhurried(metric: Metric, samples: Callable[[], Iterator[Sample]]) -> Metric:
    """The metric with samples that are made each time somebody goes through them, with breaks for others.

    Args:
        metric: With nothing but its name, type and text.
        samples: Makes them.
    """
    metric.samples = cast("list[Sample]", _Unhurried(samples))
    return metric


class _Unhurried:
    def __init__(self, samples: Callable[[], Iterator[Sample]]) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(self._samples()):
            if not number % _BETWEEN_BREAKS:
                take_break()
            yield sample


def take_break() -> None:
    """Let another thread run that waits for its turn."""
    time.sleep(0)
