"""The real Prometheus: promtool, and a server that scrapes what a test runs."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import until

from otel_analytics.embedded.process import HOST, free_port

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "prometheus.yml"


def program(name):
    """Where the program is; without it the test is skipped, but fails where REQUIRE_PROMETHEUS is set."""
    found = shutil.which(name)
    if found is None:
        message = f"no {name} here; to have it, run: scripts/install-debian-packages"
        if os.environ.get("REQUIRE_PROMETHEUS"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def promtool(*arguments, text=""):
    """What promtool says; it must be content."""
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@contextmanager
def prometheus(directory, app, worker):
    """A server that answers, with our configuration but for the addresses of the targets and the interval.

    Args:
        directory: For its data.
        app: Host and port of the application.
        worker: Host and port of the worker.
    """
    executable = program("prometheus")
    text = CONFIG.read_text()
    for old, new in (
        ("127.0.0.1:8000", app),
        ("127.0.0.1:9464", worker),
        ("deploy/prometheus", f"{ROOT}/deploy/prometheus"),
        ("interval: 15s", "interval: 1s"),
    ):
        assert old in text
        text = text.replace(old, new)
    config = directory / "prometheus.yml"
    config.write_text(text)
    address = f"{HOST}:{free_port()}"
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen([executable, *options], stdout=output, stderr=subprocess.STDOUT)
    server = Server(f"http://{address}")
    try:
        until(lambda: server.is_ready() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield server
        assert "Evaluating rule failed" not in log.read_text()
    finally:
        process.terminate()
        process.wait(20)


class Server:
    """Asks a Prometheus over HTTP."""

    def __init__(self, url):
        self.url = url

    def is_ready(self):
        """Whether it serves queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{path} {parameters}: {error.read().decode()}")
        assert answer["status"] == "success", answer
        assert "warnings" not in answer, answer
        return answer["data"]

    def query(self, expression):
        """The series of an instant query: labels and value."""
        result = self.get("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]
