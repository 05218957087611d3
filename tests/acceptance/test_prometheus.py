"""The real Prometheus, with our configuration, on a running shop and its worker."""

import re

import pytest
from backend import raw_postgres
from live_shop import P95, text_of
from prometheus_tools import promtool

from otel_analytics.live.metrics import DURATION_BUCKETS

METRIC = re.compile(r"\b(?:\w+:)?(?:otel_analytics|http_server)_[\w:]+|\bup\b")


@pytest.mark.slow
@pytest.mark.xdist_group("live")
def test_prometheus_gets_data_for_every_expression_and_agrees_with_postgresql(live):
    server = live.server
    for address in (live.app, live.worker):
        assert promtool("check", "metrics", text=text_of(f"http://{address}/metrics")) == ""
    assert {each["health"] for each in server.get("targets")["activeTargets"]} == {"up"}
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    assert {each["type"] for each in rules} == {"recording", "alerting"}
    for rule in rules:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
        check_has_data(server, rule)
    check_candidates(server)
    with raw_postgres(live.dsn) as connection:
        check_percentiles(server, connection, live.since)


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
    for metric in metrics:
        assert server.query(metric), metric


def check_candidates(server):
    """The ranking is there, and its first is the first of `rank`."""
    scores = server.query("topk(1, otel_analytics_cache_candidate_score)")
    assert [each["http_route"] for each, _ in scores] == ["/api/v1/home"]


def check_percentiles(server, connection, since):
    """The p95 of the busiest routes lies in the bucket of the request that is the p95 in PostgreSQL.

    The recorded one is that of a rate, which knows nothing of the requests before the first scrape. With a
    few dozen of a route, that may move it by a request or two.
    """
    exact = connection.execute(
        """
        SELECT route, method,
            percentile_disc(ARRAY[0.9, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms / 1000)
        FROM route_analytics WHERE timestamp >= %s
        GROUP BY route, method ORDER BY count(*) DESC LIMIT 4
        """,
        (since,),
    ).fetchall()
    whole = """histogram_quantile(0.95, sum by (http_request_method, http_route, le) (
        http_server_request_duration_seconds_bucket))"""
    assert len(exact) == 4
    told, recorded = (
        {(each["http_route"], each["http_request_method"]): value for each, value in server.query(expression)}
        for expression in (whole, P95)
    )
    for route, method, (p90, p95, p99) in exact:
        lowest, highest = bucket_of(p95)
        assert lowest <= told[route, method] <= highest, (route, method, p95)
        assert bucket_of(p90)[0] <= recorded[route, method] <= bucket_of(p99)[1], (route, method, p90, p99)


def bucket_of(seconds):
    """The bounds of the bucket of a duration."""
    bounds = (0.0, *DURATION_BUCKETS)
    index = next(place for place, bound in enumerate(bounds) if bound >= seconds)
    return bounds[index - 1], bounds[index]
