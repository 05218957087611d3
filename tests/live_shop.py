"""A shop, its worker and a Prometheus that has scraped both for a while, for dashboards and rules."""

import asyncio
import datetime as dt
import json
import os
import random
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backend import make_settings, make_worker, raw_postgres, raw_redis, scalar
from program import PROGRAM
from prometheus_tools import Server, prometheus
from waiting import until

from otel_analytics.demo import traffic
from otel_analytics.demo.past import past_events
from otel_analytics.demo.shop import create_tables
from otel_analytics.embedded.process import HOST, free_port
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

LIVE_SECONDS = 12
P95 = "job_method_route:http_server_request_duration_seconds:p95_rate5m"


@dataclass(frozen=True)
class LiveShop:
    """All that runs.

    Attributes:
        server: The Prometheus.
        app: Host and port of the shop.
        worker: Host and port of the worker's metrics.
        dsn: Of the database.
        since: When the live traffic began; before lies a day of the shop's past.
    """

    server: Server
    app: str
    worker: str
    dsn: str
    since: dt.datetime


@contextmanager
def live_shop(directory: Any, redis_url: str, dsn: str) -> Any:
    """Run it until everything that the live traffic did is stored and scraped.

    Args:
        directory: For logs and data.
        redis_url: An empty Redis that nobody else uses.
        dsn: A migrated database.
    """
    now = dt.datetime.now(dt.UTC)
    create_tables(dsn)
    store_past(redis_url, dsn, now)
    with raw_redis(redis_url) as client:
        client.config_set("maxmemory", 2**30)  # else there is no such metric
    app, worker = (f"{HOST}:{free_port()}" for _ in range(2))
    config = directory / "otel-analytics.toml"
    values = {
        "redis_url": redis_url,
        "postgres_dsn": dsn,
        "worker_metrics_port": int(worker.rpartition(":")[2]),
        "excluded_paths": ["/healthz"],
        "rankings_interval_seconds": 0,
        "rollup_interval_seconds": 1,
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PG"))}
    environment["OTEL_ANALYTICS_CONFIG"] = str(config)
    subprocess.run([PROGRAM, "keep"], env=environment, check=True, timeout=60, capture_output=True)
    shop = [sys.executable, "-m", "uvicorn", "otel_analytics.demo.shop:create_app", "--factory"]
    options = ["--host", HOST, "--port", app.rpartition(":")[2], "--no-access-log"]
    with (
        running([PROGRAM, "worker"], environment, directory / "worker.log", f"http://{worker}/metrics"),
        running([*shop, *options], environment, directory / "shop.log", f"http://{app}/healthz"),
        prometheus(directory, app, worker) as server,
    ):
        until(lambda: server.query("sum(up) == 2"))
        answers = asyncio.run(
            traffic.visit(
                f"http://{app}",
                seconds=LIVE_SECONDS,
                requests_a_second=25,
                chance=random.Random(3),
                progress=lambda done: None,
            )
        )
        with raw_postgres(dsn) as connection:
            query = "SELECT count(*) FROM route_analytics WHERE timestamp >= %s"
            until(lambda: scalar(connection, query, now) == answers)
            # Soon after the full hour, no other traffic is in the figures of this one.
            until(lambda: not scalar(connection, "SELECT count(*) FROM route_analytics_touched_hours"))
        total = "sum(http_server_request_duration_seconds_count)"
        until(lambda: [value for _, value in server.query(total)] == [answers])
        until(lambda: all(server.query(name) for name in ("otel_analytics_ledger_stored_total", P95)))
        yield LiveShop(server, app, worker, dsn, now)


def store_past(redis_url: str, dsn: str, now: dt.datetime) -> None:
    """A day of the shop's past, stored and rolled up, so that there is something to rank; and a few drops."""
    settings = make_settings(redis_url, dsn)
    events = past_events(
        now=now - dt.timedelta(minutes=1), days=1, requests_a_day=6_000, chance=random.Random(1)
    )
    exporter = RedisStreamSpanExporter(settings)
    drops = {"buffer_full": 3}
    while batch := list(islice(events, 500)):
        exporter.send(batch, drops)
        drops = {}
    exporter.disconnect()
    with make_worker(settings, now) as worker:
        worker.run_once()


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Any, address: str) -> Any:
    """A process, from when its address answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or text_of(address) is not None, seconds=30)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


def text_of(address: str) -> str | None:
    """What a GET is answered with; None where nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return None
