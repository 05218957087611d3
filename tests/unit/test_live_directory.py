"""Real processes, as it is their life and death that decides what stays in the directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = "import os; from otel_analytics.live.directory import prepare; prepare(os.environ)\n"
COUNT = "from prometheus_client import Counter; Counter('c', 'c').inc()\n"


def run(code, directory):
    """Run Python on a directory for metrics; returns the id of the process and what it said."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(timeout=30)
    return process.pid, out, err


def names(directory):
    return sorted(path.name for path in directory.glob("*.db"))


def test_the_directory_is_made_and_holds_one_run(tmp_path):
    directory = tmp_path / "not" / "there"
    first, _, err = run(PREPARE + COUNT, directory)
    assert err == ""
    assert names(directory) == [f"counter_{first}.db"]
    (directory / "users.db").write_text("not a file of ours")

    second, _, err = run(PREPARE + COUNT, directory)
    assert err == ""
    assert names(directory) == [f"counter_{second}.db", "users.db"]


def test_a_run_goes_on_while_one_of_its_processes_lives(tmp_path):
    """As with processes of one service that a supervisor starts one by one."""
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE + COUNT + "print(flush=True); input()"],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as lasting:
        lasting.stdout.readline()
        dead = [run(PREPARE + COUNT, tmp_path)[0] for _ in range(2)]
        assert names(tmp_path) == sorted(f"counter_{pid}.db" for pid in (lasting.pid, *dead))
        lasting.stdin.close()
    pid, _, _ = run(PREPARE + COUNT, tmp_path)
    assert names(tmp_path) == [f"counter_{pid}.db"]


def test_metrics_made_before_the_directory_is_prepared_stay(tmp_path):
    (tmp_path / "counter_1.db").touch()  # of an earlier process 1; today's began before it was written
    os.utime(tmp_path / "counter_1.db", (0, 0))
    pid, _, err = run(COUNT + PREPARE, tmp_path)
    assert err == ""
    assert names(tmp_path) == [f"counter_{pid}.db"]


@pytest.mark.parametrize("place", ["a file", "below a file", "nowhere"])
def test_a_directory_that_cannot_be_used_is_an_error_of_one_line(tmp_path, place):
    (tmp_path / "file").touch()
    directory = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "metrics", "nowhere": ""}
    code = (
        "import os\nfrom otel_analytics.errors import SettingsError\n"
        "from otel_analytics.live.directory import prepare\n"
        "try:\n    prepare(os.environ)\nexcept SettingsError as error:\n    print(error)"
    )
    _, out, err = run(code, directory[place])
    assert err == ""
    assert len(out.splitlines()) == 1
    assert out.startswith("PROMETHEUS_MULTIPROC_DIR")
    assert "name a directory" in out


def test_a_single_process_shares_nothing():
    code = PREPARE + "print(os.environ.get('PROMETHEUS_MULTIPROC_DIR'))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert process.stdout == "None\n"


WORKER = """
import multiprocessing, os
def work():
    import logging
    {first}
    logging.basicConfig(format="%(message)s")
    from otel_analytics.live.directory import prepare
    prepare(os.environ)
    print(os.environ.get("PROMETHEUS_MULTIPROC_DIR"), flush=True)
for _ in range(2):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
"""


def start_workers(tmp_path, first="pass"):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", WORKER.format(first=first)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [Path(line) for line in process.stdout.split()], process.stderr


def test_workers_without_a_directory_get_a_private_one_and_the_next_run_another(tmp_path):
    (one, same), err = start_workers(tmp_path)
    assert err == ""
    assert one == same
    assert one.stat().st_mode & 0o777 == 0o700
    assert one.parent.parent == tmp_path

    (other, _), _ = start_workers(tmp_path)
    assert other != one
    assert not one.exists()


def test_a_directory_open_to_others_is_not_used(tmp_path):
    shared = tmp_path / f"otel-analytics-metrics-{os.geteuid()}"
    shared.mkdir()
    shared.chmod(0o755)  # whatever the umask says
    directories, err = start_workers(tmp_path)
    assert directories == [Path("None"), Path("None")]
    assert "not a private directory" in err
    assert "set PROMETHEUS_MULTIPROC_DIR" in err


def test_workers_that_cannot_share_any_more_are_told_what_to_do(tmp_path):
    directories, err = start_workers(tmp_path, first="import prometheus_client")
    assert directories == [Path("None"), Path("None")]
    assert err.count("\n") == 2  # one line a process
    assert "set the variable to a directory before they start" in err
