"""The real Prometheus, with our configuration, on a running shop and its worker."""

import asyncio
import datetime as dt
import json
import os
import random
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from itertools import islice

import pytest
from backend import make_settings, make_worker, raw_postgres, raw_redis, scalar
from program import PROGRAM
from prometheus_tools import prometheus, promtool
from waiting import until

from otel_analytics.demo import traffic
from otel_analytics.demo.past import past_events
from otel_analytics.demo.shop import create_tables
from otel_analytics.embedded.process import HOST, free_port
from otel_analytics.live.metrics import DURATION_BUCKETS
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

LIVE_SECONDS = 12
P95 = "job_method_route:http_server_request_duration_seconds:p95_rate5m"
METRIC = re.compile(r"\b(?:\w+:)?(?:otel_analytics|http_server)_[\w:]+|\bup\b")
NOT_YET = {
    "otel_analytics_events_dropped_total": "nothing was dropped; each reason appears with its first drop",
}


@pytest.fixture
def live(tmp_path, redis_url, migrated_dsn, monkeypatch):
    """A Prometheus that has scraped a shop and its worker for a while, their addresses, and the database."""
    now = dt.datetime.now(dt.UTC)
    create_tables(migrated_dsn)
    store_past(redis_url, migrated_dsn, now)
    with raw_redis(redis_url) as client:
        client.config_set("maxmemory", 2**30)  # else there is no such metric
    app, worker = (f"{HOST}:{free_port()}" for _ in range(2))
    config = tmp_path / "otel-analytics.toml"
    values = {
        "redis_url": redis_url,
        "postgres_dsn": migrated_dsn,
        "worker_metrics_port": int(worker.rpartition(":")[2]),
        "excluded_paths": ["/healthz"],
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    monkeypatch.setenv("OTEL_ANALYTICS_CONFIG", str(config))
    shop = [sys.executable, "-m", "uvicorn", "otel_analytics.demo.shop:create_app", "--factory"]
    options = ["--host", HOST, "--port", app.rpartition(":")[2], "--no-access-log"]
    try:
        with (
            running([PROGRAM, "worker"], tmp_path / "worker.log", f"http://{worker}/metrics"),
            running([*shop, *options], tmp_path / "shop.log", f"http://{app}/healthz"),
            prometheus(tmp_path, app, worker) as server,
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
            with raw_postgres(migrated_dsn) as connection:
                query = "SELECT count(*) FROM route_analytics WHERE timestamp >= %s"
                until(lambda: scalar(connection, query, now) == answers)
                total = "sum(http_server_request_duration_seconds_count)"
                until(lambda: [value for _, value in server.query(total)] == [answers])
                until(lambda: all(server.query(name) for name in ("otel_analytics_ledger_stored_total", P95)))
                yield server, app, worker, connection, now
    finally:
        with raw_redis(redis_url) as client:
            client.config_set("maxmemory", 0)


def store_past(redis_url, dsn, now):
    """A day of the shop's past, stored and rolled up, so that there is something to rank."""
    settings = make_settings(redis_url, dsn)
    events = past_events(
        now=now - dt.timedelta(minutes=1), days=1, requests_a_day=6_000, chance=random.Random(1)
    )
    exporter = RedisStreamSpanExporter(settings)
    while batch := list(islice(events, 500)):
        exporter.send(batch, {})
    exporter.disconnect()
    with make_worker(settings, now) as worker:
        worker.run_once()


@contextmanager
def running(command, log, address):
    """A process, from when its address answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ.copy(), stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or text_of(address) is not None, seconds=30)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


def text_of(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.read().decode()
    except OSError:
        return None


@pytest.mark.slow
def test_prometheus_gets_data_for_every_expression_and_agrees_with_postgresql(live):
    server, app, worker, connection, since = live
    for address in (app, worker):
        assert promtool("check", "metrics", text=text_of(f"http://{address}/metrics")) == ""
    assert {each["health"] for each in server.get("targets")["activeTargets"]} == {"up"}
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    assert {each["type"] for each in rules} == {"recording", "alerting"}
    for rule in rules:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
        check_has_data(server, rule)
    check_candidates(server)
    check_percentiles(server, connection, since)


def check_has_data(server, rule):
    """A recorded expression gives values; an alert has values to look at, and none of ours fires."""
    found = server.query(rule["query"])
    if rule["type"] == "recording":
        assert found, rule["query"]
        assert all(value >= 0 for _, value in found), (rule["query"], found)
        return
    if rule["name"].startswith("OtelAnalytics"):
        assert found == [], rule
    metrics = set(METRIC.findall(rule["query"]))
    assert metrics, rule["query"]
    for metric in metrics - set(NOT_YET):
        assert server.query(metric), metric
    for metric in metrics & set(NOT_YET):
        assert server.query(metric) == [], f"no longer: {NOT_YET[metric]}"


def check_candidates(server):
    """The ranking is there, and its first is the first of `rank`."""
    scores = server.query("topk(1, otel_analytics_cache_candidate_score)")
    assert [each["http_route"] for each, _ in scores] == ["/api/v1/home"]


def check_percentiles(server, connection, since):
    """The p95 of the busiest routes, here and there, are no further apart than the bucket is wide."""
    exact = connection.execute(
        """
        SELECT route, method, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) / 1000
        FROM route_analytics WHERE timestamp >= %s
        GROUP BY route, method ORDER BY count(*) DESC LIMIT 4
        """,
        (since,),
    ).fetchall()
    whole = """histogram_quantile(0.95, sum by (http_request_method, http_route, le) (
        http_server_request_duration_seconds_bucket))"""
    assert len(exact) == 4
    for expression in (whole, P95):
        told = {
            (each["http_route"], each["http_request_method"]): value
            for each, value in server.query(expression)
        }
        for route, method, p95 in exact:
            bounds = (0.0, *DURATION_BUCKETS)
            index = next(place for place, bound in enumerate(bounds) if bound >= p95)
            width = bounds[index] - bounds[index - 1]
            assert told[route, method] == pytest.approx(p95, abs=width), (route, method, expression)
