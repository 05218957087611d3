"""The metrics of all worker processes as one, for a scrape.

prometheus_client has such a collector. But it adds up in whatever order the files come, and as the sum of
fractions depends on the order, it can fall by its last digit when a worker comes or goes. Prometheus takes
that for a restart, and the whole sum for what has come since. Here sums are exact before they are rounded.

Imports prometheus_client, so not to be imported before `directory.prepare` was called.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from otel_analytics.live.archive import metric_files, read
from otel_analytics.live.directory import MetricFile
from otel_analytics.live.unhurried import take_break, unhurried

_BOUND: Final = "le"
_ADDED_UP: Final = ("counter", "histogram", "summary")
_BETWEEN_BREAKS: Final = 100
"""Values; they take about half a millisecond."""

_Series = dict[tuple[str, ...], dict[str, float]]
"""Names and values of labels in turn, to what stands behind them: by the bound of a bucket, or by the name.
Flat, as the garbage collector passes over what holds nothing but texts and numbers."""


class AllProcesses(Collector):
    """The metrics of all processes of the run, dead ones included."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet.

        Args:
            directory: Where the run has its files.
        """
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """See the base class."""
        with metric_files(self._directory) as found:
            values = {kind: [_values(file) for file in found if file.kind == kind] for kind in _ADDED_UP}
            gauges = [str(file.path) for file in found if file.kind not in _ADDED_UP]
            yield from MultiProcessCollector.merge(gauges)  # type: ignore[no-untyped-call]
        for kind, each in values.items():
            yield from _families(kind, each)


def _values(file: MetricFile) -> dict[str, float]:
    found = {}
    for number, (key, value, _) in enumerate(read(file)):
        if not number % _BETWEEN_BREAKS:
            take_break()
        found[key] = value
    return found


def _families(kind: str, files: Sequence[Mapping[str, float]]) -> Iterator[Metric]:
    texts: dict[str, str] = {}
    families: dict[str, _Series] = {}
    for number, key in enumerate(dict.fromkeys(chain.from_iterable(files))):
        if not number % _BETWEEN_BREAKS:
            take_break()
        family, name, labels, text = json.loads(key)
        texts[family] = text
        bound = labels.pop(_BOUND, None) if kind == "histogram" else None
        series = families.setdefault(family, {}).setdefault(tuple(chain.from_iterable(labels.items())), {})
        series[bound or name] = math.fsum(file[key] for file in files if key in file)
    for family, each in families.items():
        yield unhurried(Metric(family, texts[family], kind), partial(_samples, family, each))


def _samples(family: str, series: _Series) -> Iterator[Sample]:
    for flat, values in series.items():
        labels = dict(zip(flat[::2], flat[1::2], strict=True))
        bounds = sorted((each for each in values if not each.startswith(family)), key=float)
        total = 0.0
        for bound in bounds:
            # Each bucket includes those below it, which is not how they are kept.
            total += values[bound]
            yield Sample(f"{family}_bucket", {**labels, _BOUND: bound}, total)
        if bounds:
            yield Sample(f"{family}_count", labels, total)
        for name, value in values.items():
            if name not in bounds:
                yield Sample(name, labels, value)
