"""What dead worker processes have counted, folded into one file of each kind.

A server that replaces its workers would fill the directory otherwise, and each scrape would take longer.

Aside from the files of living processes, what counts is one directory: the generation with the highest
number. It holds the files of processes found dead, put there by a rename, and what those of earlier ones were
folded into. A fold writes the next generation under another name; the rename that gives it its number is the
moment at which it counts, and the one before counts no more. So whoever is killed in the middle, no count is
lost and none is there twice. All of it happens under an exclusive lock, and reading under a shared one.

Imports prometheus_client, so not to be imported before `directory.prepare` was called.
"""

import fcntl
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from prometheus_client.mmap_dict import MmapedDict

from otel_analytics.live.directory import GENERATION, MetricFile, files, has_living_owner

_LOCK: Final = "otel-analytics.lock"
_UNFINISHED: Final = "otel-analytics.new"
_NO_PROCESS: Final = 0
"""In the name of a file that others were folded into. No process of its own has this number."""

_Values = dict[str, list[tuple[float, float]]]
"""What several files say of each key: values, and when they were set."""


@contextmanager
def metric_files(directory: Path) -> Iterator[list[MetricFile]]:
    """The files of all processes of the run. As long as the context lasts, they hold each count once.

    Files of processes that died since the last time are folded first, unless another process reads just now.

    Args:
        directory: Where the run has them.
    """
    with (directory / _LOCK).open("a") as lock:
        if _is_free(lock):
            _fold(directory)
        fcntl.flock(lock, fcntl.LOCK_SH)
        generation = _generations(directory)[-1:]
        found = [file for each in (directory, *generation) for file in files(each)]
        yield [file for file in found if _counts(file)]


def read(file: MetricFile) -> Iterator[tuple[str, float, float]]:
    """The values of a file: key, value, and the time it was set at, in seconds since 1970 (gauges only)."""
    values = MmapedDict.read_all_values_from_file(str(file.path))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in values:
        yield key, value, timestamp


def _counts(file: MetricFile) -> bool:
    # A worker that is killed between making a file and sizing it leaves an empty one, on which
    # prometheus_client fails for good.
    return bool(_size(file.path)) and (not file.ends_with_its_process or has_living_owner(file))


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fold(directory: Path) -> None:
    generation = _tidy(directory)
    for file in files(directory):
        if has_living_owner(file):
            continue
        if file.ends_with_its_process:
            file.path.unlink(missing_ok=True)
        else:
            # A process with the same number may follow, and die.
            name = f"{file.path.stem}-{file.path.stat().st_ino}.db"
            file.path.rename(generation / name)
    # One that began just now may have opened a file before it was put aside, and writes to it there.
    put_aside = list(files(generation))
    living = [file for file in put_aside if file.pid != _NO_PROCESS and has_living_owner(file)]
    dead = [file for file in put_aside if file not in living]
    if any(file.pid != _NO_PROCESS for file in dead):
        new = directory / _UNFINISHED
        new.mkdir()
        for file in living:
            os.link(file.path, new / file.path.name)
        _write(dead, new)
        new.rename(directory / f"{GENERATION}{_number(generation) + 1}")
        shutil.rmtree(generation)


def _tidy(directory: Path) -> Path:
    """The generation that counts; what a fold that was cut short has left is removed."""
    *outdated, current = _generations(directory) or [directory / f"{GENERATION}1"]
    for each in (*outdated, directory / _UNFINISHED):
        shutil.rmtree(each, ignore_errors=True)
    current.mkdir(exist_ok=True)
    return current


def _generations(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{GENERATION}*"), key=_number)


def _number(generation: Path) -> int:
    return int(generation.name.removeprefix(GENERATION))


def _write(dead: list[MetricFile], directory: Path) -> None:
    """One file of each kind that says what all of these say."""
    kinds: dict[str, _Values] = defaultdict(lambda: defaultdict(list))
    for file in dead:
        if _size(file.path):
            for key, value, timestamp in read(file):
                kinds[file.kind][key].append((value, timestamp))
    for kind, values in kinds.items():
        target = MmapedDict(str(directory / f"{kind}_{_NO_PROCESS}.db"))  # type: ignore[no-untyped-call]
        for key, parts in values.items():
            target.write_value(key, *_joined(kind, parts))  # type: ignore[no-untyped-call]
        target.close()  # type: ignore[no-untyped-call]


def _joined(kind: str, parts: list[tuple[float, float]]) -> tuple[float, float]:
    if kind == "gauge_max":
        return max(parts)
    if kind == "gauge_min":
        return min(parts)
    if kind == "gauge_mostrecent":
        return max(parts, key=lambda part: part[1])
    total = math.fsum(value for value, _ in parts)
    if len(parts) > 1 and not total.is_integer():
        # Rounded up, so that no sum over files can be less than it was before; see `summed`.
        total = math.nextafter(total, math.inf)
    return total, 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
