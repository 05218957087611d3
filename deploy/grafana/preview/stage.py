"""What the previews show: the demo as anybody runs it, with a real Prometheus that scrapes it."""

import contextlib
import datetime as dt
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_analytics.embedded.process import HOST, free_port, running
from otel_analytics.settings import ENV_PREFIX

ROOT: Final = Path(__file__).parents[3]
SCRAPE_SECONDS: Final = 5
_CONFIG: Final = ROOT / "prometheus.yml"
_RULES: Final = "deploy/prometheus/rules"
_START_SECONDS: Final = 180.0
_SHOP: Final = re.compile(r"shop +http://(\S+?)/docs")
_RANKED: Final = "What to cache, by"


class StageError(Exception):
    """The demo or Prometheus does not run."""


@dataclass(frozen=True)
class Stage:
    """Servers with data in them.

    Attributes:
        prometheus_url: Has seen the live traffic.
        postgres_dsn: Has the live traffic and the week before.
        since: When live traffic began.
        until: When it ended.
        ranked: When the rankings that follow from it had been kept.
    """

    prometheus_url: str
    postgres_dsn: str
    since: dt.datetime
    until: dt.datetime
    ranked: dt.datetime


@contextlib.contextmanager
def stage(live_seconds: int) -> Iterator[Stage]:
    """Run the demo, let Prometheus watch its live traffic, and keep both until the block ends.

    Args:
        live_seconds: How long live traffic is sent.

    Raises:
        StageError: Something does not start.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-analytics-preview-")))
        demo = stack.enter_context(_demo(directory, live_seconds))
        shop = demo.wait_for(_SHOP, _START_SECONDS)[1]
        settings = tomllib.loads((directory / ".demo" / "otel-analytics.toml").read_text())
        worker = f"{HOST}:{settings['worker_metrics_port']}"
        url = stack.enter_context(_prometheus(directory, shop, worker))
        demo.wait_for(re.compile("of live traffic"), _START_SECONDS)
        since = dt.datetime.now(dt.UTC)
        demo.wait_for(re.compile(_RANKED), live_seconds + _START_SECONDS)
        until = since + dt.timedelta(seconds=live_seconds)
        yield Stage(url, settings["postgres_dsn"], since, until, dt.datetime.now(dt.UTC))


class _Demo:
    """A demo that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    def wait_for(self, words: re.Pattern[str], seconds: float) -> re.Match[str]:
        """What it says, as soon as it says it."""
        deadline = time.monotonic() + seconds
        while not (match := words.search(self._log.read_text(errors="replace"))):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"the demo does not say {words.pattern!r}: {self._log.read_text()}")
            time.sleep(0.2)
        return match


@contextlib.contextmanager
def _demo(directory: Path, live_seconds: int) -> Iterator[_Demo]:
    """The demo on servers of its own; what it writes goes into the directory."""
    command = [sys.executable, "-m", "otel_analytics.cli", "demo", "--seconds", str(live_seconds)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    log = directory / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=directory, env={**kept, "PYTHONUNBUFFERED": "1"}, stdout=output, stderr=output
        )
    try:
        yield _Demo(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_START_SECONDS)


@contextlib.contextmanager
def _prometheus(directory: Path, app: str, worker: str) -> Iterator[str]:
    """The address of a server with our configuration, but for the targets and how often it looks at them."""
    program = shutil.which("prometheus")
    if program is None:
        raise StageError("there is no prometheus; to have it, run: scripts/install-debian-packages")
    text = _CONFIG.read_text()
    for old, new in (
        ("127.0.0.1:8000", app),
        ("127.0.0.1:9464", worker),
        (_RULES, str(ROOT / _RULES)),
        ("interval: 15s", f"interval: {SCRAPE_SECONDS}s"),
    ):
        if old not in text:
            raise StageError(f"{_CONFIG.name} has no {old!r}")
        text = text.replace(old, new)
    config = directory / "prometheus.yml"
    config.write_text(text)
    address = f"{HOST}:{free_port()}"
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = directory / "prometheus.log"
    with running([program, *options], log=log, is_ready=lambda _: _is_ready(f"http://{address}")):
        yield f"http://{address}"


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as response:  # noqa: S310 - our own
            return bool(response.status == 200)  # noqa: PLR2004
    except OSError:
        return False
