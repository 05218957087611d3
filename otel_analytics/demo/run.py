"""The whole pipeline at once: servers, a shop, a worker, traffic, rankings."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from otel_analytics.demo import traffic
from otel_analytics.demo.past import CATEGORIES_CACHED_FOR, past_events
from otel_analytics.demo.processes import start
from otel_analytics.demo.servers import Servers, demo_servers
from otel_analytics.demo.shop import create_tables
from otel_analytics.demo.words import absolute_in_words, relative_in_words
from otel_analytics.embedded.process import free_port
from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.keeping import keep
from otel_analytics.settings import ENV_PREFIX, Settings, without_password
from otel_analytics.store import ledger, migrations
from otel_analytics.store.connection import Connection, connect
from otel_analytics.stream import Inspector
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

DIRECTORY: Final = Path(".demo")
PAST_DAYS: Final = 7
REQUESTS_A_DAY: Final = 30_000
LIVE_REQUESTS_A_SECOND: Final = 25.0
_HOST: Final = "127.0.0.1"
_SHOP_PORT: Final = 8000
_WORKER_PORT: Final = 9464
_DRAIN_SECONDS: Final = 60.0
_BATCH: Final = 500
_ALL_OF_THE_SHOP: Final = 100
"""Patterns; there are about eighty."""


def run(settings: Settings, *, once: bool, live_seconds: float, console: Console) -> None:
    """Run the demo from the servers to the rankings.

    Args:
        settings: Those of the environment. Servers that they name are used, in a schema and under keys of the
            demo's own, which are removed at the end; others are started, and gone at the end.
        once: Return after the rankings instead of waiting for Ctrl-C.
        live_seconds: How long live traffic is sent.
        console: Where it says what happens.

    Raises:
        OtelAnalyticsError: A server or process does not start.
    """
    began = time.monotonic()
    _end_in_order()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request, otherwise
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-analytics-demo-")))
        # PostgreSQL may run as somebody else, who has to get at its data.
        directory.chmod(0o755)
        _say(console, 1, "Servers")
        servers = stack.enter_context(demo_servers(directory, settings))
        console.print(f"  Redis       {without_password(servers.redis_url)}")
        console.print(f"  PostgreSQL  {without_password(servers.postgres_dsn)}")
        migrations.migrate(servers.postgres_dsn)
        create_tables(servers.postgres_dsn)

        _say(console, 2, "A shop with the two lines in it, and one worker")
        places = Places(_port(_SHOP_PORT), _port(_WORKER_PORT), DIRECTORY / "otel-analytics.toml")
        stack.callback(_remove, places.config)
        _write_config(servers, places)
        environment = _environment(places.config)
        ensure_worker = _start_worker(stack, environment, directory, places)
        _start_shop(stack, environment, directory, places)
        console.print(f"  shop        {places.shop}/docs")
        console.print(f"  worker      {places.worker}/metrics")

        _say(console, 3, f"The last {PAST_DAYS} days, through the exporter, the stream and the worker")
        end = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
        past = _replay_past(servers, end, console, ensure_worker)
        _say(console, 4, f"{live_seconds:.0f} seconds of live traffic over HTTP")
        live = _send_live(places.shop, live_seconds, console)
        _wait_for_worker(servers)
        _otel_analytics(environment, "rollup")
        _keep_rankings(servers, environment, end - CATEGORIES_CACHED_FOR)

        _say(console, 5, f"What to cache, by {past + live:,} requests")
        _show_rankings(environment, console)
        console.print(f"[dim]All of it took {time.monotonic() - began:.0f} s.[/]")
        if not once:
            _stay(places, console)


@dataclass(frozen=True)
class Places:
    """Where to look at the running demo: ports on this machine, and a settings file for other terminals."""

    shop_port: int
    worker_port: int
    config: Path

    @property
    def shop(self) -> str:
        """Address of the shop."""
        return f"http://{_HOST}:{self.shop_port}"

    @property
    def worker(self) -> str:
        """Address of the worker's metrics."""
        return f"http://{_HOST}:{self.worker_port}"


def _end_in_order() -> None:
    """Let a signal unwind everything, also where a shell has started this in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: sys.exit(128 + number))


def _say(console: Console, step: int, what: str) -> None:
    console.print(f"\n[bold cyan]{step}[/] [bold]{what}[/]")


def _port(wanted: int) -> int:
    """The port that people expect, or any other that is free."""
    with contextlib.closing(socket.socket()) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((_HOST, wanted))
        except OSError:
            return free_port()
    return wanted


def _remove(config: Path) -> None:
    config.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another demo has its own there, or there is no folder yet
        config.parent.rmdir()


def _write_config(servers: Servers, places: Places) -> None:
    """Settings for the demo's processes and for commands in other terminals; for the owner's eyes only."""
    places.config.parent.mkdir(exist_ok=True)
    values = {
        "redis_url": servers.redis_url,
        "postgres_dsn": servers.postgres_dsn,
        "key_prefix": servers.key_prefix,
        "worker_metrics_port": places.worker_port,
        "rollup_interval_seconds": 5.0,
        "rankings_interval_seconds": 0.0,  # the demo keeps them itself, once the past is there
        "hash_key": secrets.token_hex(16),
        "excluded_paths": ["/healthz"],
    }
    places.config.unlink(missing_ok=True)
    places.config.touch(mode=0o600)
    # A JSON text, number or list of texts is a TOML one, too.
    places.config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))


def _environment(config: Path) -> dict[str, str]:
    """For the demo's processes: no setting from elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**kept, f"{ENV_PREFIX}CONFIG": str(config.resolve()), "PYTHONUNBUFFERED": "1"}


def _start_worker(
    stack: contextlib.ExitStack, environment: dict[str, str], directory: Path, places: Places
) -> Callable[[], None]:
    return start(
        stack,
        _command("worker"),
        environment,
        log=directory / "worker.log",
        address=f"{places.worker}/metrics",
    )


def _start_shop(
    stack: contextlib.ExitStack, environment: dict[str, str], directory: Path, places: Places
) -> None:
    server = [sys.executable, "-m", "uvicorn", "otel_analytics.demo.shop:create_app", "--factory"]
    options = ["--host", _HOST, "--port", str(places.shop_port), "--no-access-log"]
    start(
        stack, [*server, *options], environment, log=directory / "shop.log", address=f"{places.shop}/healthz"
    )


def _replay_past(
    servers: Servers, end: dt.datetime, console: Console, ensure_worker: Callable[[], None]
) -> int:
    """Send the past through the exporter while the worker stores it; returns the number of events."""
    settings = Settings(
        redis_url=servers.redis_url, postgres_dsn=servers.postgres_dsn, key_prefix=servers.key_prefix
    )
    exporter = RedisStreamSpanExporter(settings)
    events = past_events(
        now=end,
        days=PAST_DAYS,
        requests_a_day=REQUESTS_A_DAY,
        chance=random.Random(1),
    )
    expected = PAST_DAYS * REQUESTS_A_DAY
    sent = 0
    with _progress(console) as progress, connect(servers.postgres_dsn) as connection:
        sending = progress.add_task("sent", total=expected)
        storing = progress.add_task("stored", total=expected)
        number = 0
        while batch := list(islice(events, _BATCH)):
            exporter.send(batch, {})
            sent += len(batch)
            progress.update(sending, completed=sent)
            number += 1
            if number % 10 == 0:
                progress.update(storing, completed=_stored(connection))
        progress.update(sending, total=sent)
        progress.update(storing, total=sent)
        while (stored := _stored(connection)) < sent:
            ensure_worker()
            progress.update(storing, completed=stored)
            time.sleep(0.2)
        progress.update(storing, completed=stored)
    exporter.disconnect()
    return sent


def _stored(connection: Connection) -> int:
    return sum(row.stored + row.duplicates + row.dead for row in ledger.rows(connection))


def _send_live(base_url: str, seconds: float, console: Console) -> int:
    with _progress(console) as progress:
        task = progress.add_task("answered", total=round(seconds * LIVE_REQUESTS_A_SECOND))
        answers = asyncio.run(
            traffic.visit(
                base_url,
                seconds=seconds,
                requests_a_second=LIVE_REQUESTS_A_SECOND,
                chance=random.Random(2),
                progress=lambda done: progress.update(task, completed=done),
            )
        )
        progress.update(task, completed=answers, total=answers)
    return answers


def _wait_for_worker(servers: Servers) -> None:
    """Wait until the worker has stored what the shop has delivered."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    time.sleep(2 * Settings().export_interval_seconds)  # the last events of the shop wait for company
    inspector = Inspector(servers.redis_url, key_prefix=servers.key_prefix)
    while inspector.status().oldest_unprocessed_seconds and time.monotonic() < deadline:
        time.sleep(0.1)
    inspector.close()


def _keep_rankings(servers: Servers, environment: dict[str, str], before: dt.datetime) -> None:
    """Keep the rankings as they were before the shop followed one of them, and as they are now."""
    settings = Settings(postgres_dsn=servers.postgres_dsn, top_n_routes=_ALL_OF_THE_SHOP)
    with connect(servers.postgres_dsn) as connection:
        keep(connection, settings, clock=lambda: before)
    _otel_analytics(environment, "keep")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "otel_analytics.cli", *arguments]


def _otel_analytics(environment: dict[str, str], *arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run(  # noqa: S603 - our own command
        _command(*arguments), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OtelAnalyticsError(f"otel-analytics {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _show_rankings(environment: dict[str, str], console: Console) -> None:
    for arguments, explain in (
        (("rank", "-n", "8"), absolute_in_words),
        (("rank", "--relative", "-n", "8"), relative_in_words),
    ):
        console.print(f"[bold green]$[/] otel-analytics {' '.join(arguments)}")
        # Its own process, on this very terminal, so that it is shown as it always is.
        subprocess.run(_command(*arguments), env=environment, check=False)  # noqa: S603 - our own command
        rows = json.loads(_otel_analytics(environment, *arguments, "--format", "json"))
        console.print(f"\n{explain(rows)}\n", highlight=False)


def _stay(places: Places, console: Console) -> None:
    config = places.config
    console.print(
        f"\n[bold]It stays up.[/] In another terminal, in this directory:\n"
        f"  export {ENV_PREFIX}CONFIG={config}\n"
        f"  otel-analytics advise               what to cache, what never to share, what else stands out\n"
        f"  otel-analytics rank --by savings    what a cache would give back, and for how long to keep it\n"
        f"  otel-analytics report               all of it on one page, report.html\n"
        f"  otel-analytics plan                 what a caching layer reads\n"
        f"  otel-analytics audit                every accepted event, accounted for\n"
        f"  otel-analytics doctor               is everything as it should be?\n"
        f"  make cache-analysis n=10 days=7 format=json\n"
        f"And in a browser, or with curl:\n"
        f"  {places.shop}/docs           the shop; ask it for something, and rank again\n"
        f"  {places.shop}/metrics        its live latency, for Prometheus\n"
        f"  {places.worker}/metrics        the worker's own figures\n"
        f"(otel-analytics is in .venv/bin where make has set it up.)\n\n"
        f"[bold]Ctrl-C ends it[/] and removes all it made.",
        highlight=False,
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    console.print("\nStopping.")
