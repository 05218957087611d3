"""Real processes and real files: what dead workers have counted stays, each count once, in few files."""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from otel_analytics.live.archive import metric_files
from otel_analytics.live.summed import AllProcesses


def nobody():
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def write(directory, name, values):
    """A file as a process leaves it, with kind and number in its name; values by the name of a metric."""
    file = MmapedDict(str(directory / name))
    for metric, value in values.items():
        file.write_value(mmap_key(metric, metric, [], [], "help"), value, value)
    file.close()


def shown(directory):
    return {
        sample.name: sample.value for metric in AllProcesses(directory).collect() for sample in metric.samples
    }


def file_names(directory):
    return sorted(path.name for path in directory.rglob("*.db"))


def test_files_of_dead_processes_become_one_of_each_kind(tmp_path):
    for value in (1.0, 5.0, 2.0):
        pid = nobody()
        write(tmp_path, f"counter_{pid}.db", {"c": value})
        write(tmp_path, f"summary_{pid}.db", {"s": value})
        for mode in ("min", "max", "sum", "mostrecent", "all", "liveall", "livesum"):
            write(tmp_path, f"gauge_{mode}_{pid}.db", {mode: value})
        (tmp_path / f"histogram_{pid}.db").touch()  # killed before it had a size
        expected = {"c", "s", "min", "max", "sum", "mostrecent"}
        assert set(shown(tmp_path)) == expected
    write(tmp_path, f"counter_{os.getpid()}.db", {"c": 10.0})

    assert shown(tmp_path) == {"c": 18.0, "s": 8.0, "min": 1.0, "max": 5.0, "sum": 8.0, "mostrecent": 5.0}
    assert file_names(tmp_path) == [
        "counter_0.db",
        f"counter_{os.getpid()}.db",
        "gauge_max_0.db",
        "gauge_min_0.db",
        "gauge_mostrecent_0.db",
        "gauge_sum_0.db",
        "summary_0.db",
    ]


def test_a_sum_of_fractions_never_falls_by_its_last_digit(tmp_path):
    """Which depends on the order of additions, and which Prometheus would take for a restart."""
    chance = random.Random(1)
    write(tmp_path, f"counter_{os.getpid()}.db", {"c": 0.1})
    parts = [0.1]
    for _ in range(40):
        with metric_files(tmp_path):
            for part in (chance.random(), chance.random()):
                write(tmp_path, f"counter_{nobody()}.db", {"c": part})
                parts.append(part)
            before = shown(tmp_path)["c"]
        assert shown(tmp_path)["c"] >= before
    assert shown(tmp_path)["c"] == pytest.approx(math.fsum(parts), rel=1e-13)
    assert len(file_names(tmp_path)) == 2


def test_a_file_that_a_new_process_of_that_number_took_over_is_left_to_it(tmp_path):
    """It was made long before the process began, and yet it is written to."""
    name = f"counter_{os.getpid()}.db"
    write(tmp_path, name, {"c": 5.0})
    os.utime(tmp_path / name, (0, 0))
    file = MmapedDict(str(tmp_path / name))
    key = mmap_key("c", "c", [], [], "help")
    assert shown(tmp_path) == {"c": 5.0}
    file.write_value(key, 6.0, 0.0)
    assert shown(tmp_path) == {"c": 6.0}
    # Put aside in the moment before it was opened: its owner writes to it there.
    (tmp_path / name).rename(tmp_path / "otel-analytics.dead-1" / f"counter_{os.getpid()}-7.db")
    for value in (7.0, 8.0):
        write(tmp_path, f"counter_{nobody()}.db", {"d": 1.0})
        file.write_value(key, value, 0.0)
        assert shown(tmp_path) == {"c": value, "d": value - 6.0}
    file.close()
    for path in tmp_path.rglob("*-7.db"):
        os.utime(path, (0, 0))  # as if some other process with this number ran now
    assert shown(tmp_path) == {"c": 8.0, "d": 2.0}
    assert file_names(tmp_path) == ["counter_0.db"]


def test_a_reader_is_not_disturbed_by_a_fold(tmp_path):
    write(tmp_path, f"counter_{nobody()}.db", {"c": 1.0})
    with metric_files(tmp_path) as found:
        write(tmp_path, f"counter_{nobody()}.db", {"c": 1.0})
        write(tmp_path, f"gauge_livesum_{nobody()}.db", {"g": 1.0})
        assert shown(tmp_path) == {"c": 2.0}
        assert all(file.path.exists() for file in found)
        assert len(file_names(tmp_path)) == 3
    assert shown(tmp_path) == {"c": 2.0}
    assert file_names(tmp_path) == ["counter_0.db"]


KILLED = """
import os, signal, sys, tempfile
from itertools import count
from pathlib import Path
from test_live_archive import file_names, nobody, shown, write

STEPS = {"open", "mmap.__new__", "fcntl.flock", "shutil.rmtree"}
STEPS |= {"os." + name for name in ("rename", "link", "mkdir", "remove", "rmdir", "listdir", "scandir")}


def scrape_and_die(directory, steps):
    def step(event, arguments):
        nonlocal steps
        if event in STEPS:
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)
    shown(directory)
    os._exit(0)


for steps in count():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory, f"counter_{nobody()}.db", {"c": 1.0})
        shown(directory)
        for kind in ("counter", "summary"):
            write(directory, f"{kind}_{nobody()}.db", {kind[0]: 2.0})
        child = os.fork()
        if not child:
            scrape_and_die(directory, steps)
        status = os.waitpid(child, 0)[1]
        for _ in range(2):
            assert shown(directory) == {"c": 3.0, "s": 2.0}, steps
        assert file_names(directory) == ["counter_0.db", "summary_0.db"], steps
        if not status:
            break
print(steps)
"""


def test_no_count_is_lost_or_doubled_wherever_a_fold_is_killed():
    process = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.stderr == ""
    assert int(process.stdout) > 20
