"""From a slow series to the trace of a request, over real HTTP and with the real Prometheus."""

import contextlib
import gzip
import time

import pytest
from capture_sources import Server
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_tools import prometheus
from waiting import until

from otel_analytics.embedded.process import HOST, free_port

DURATIONS = "http_server_request_duration_seconds"
OPENMETRICS = "accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
def serve(redis_url, tmp_path):
    """Start the application on a source of spans; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(source):
            server = Server(source, redis_url, tmp_path)
            stack.callback(server.stop)
            return server

        yield start


def exemplars(server):
    answer = server.get("/metrics", headers=[OPENMETRICS, "accept-encoding: gzip"])
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.headers["content-encoding"] == "gzip"
    return [
        (sample.name, sample.labels["http_route"], sample.exemplar.labels)
        for family in text_string_to_metric_families(gzip.decompress(answer.body).decode())
        for sample in family.samples
        if sample.exemplar
    ]


def test_prometheus_finds_the_trace_of_a_sampled_request(serve, tmp_path):
    server = serve("fastapi-telemetry")
    event = server.get_event("/ping")
    labels = {"trace_id": event.trace_id, "span_id": event.span_id}
    assert (f"{DURATIONS}_bucket", "/ping", labels) in exemplars(server)

    host, port = server.address
    since = time.time() - 60
    with prometheus(tmp_path, f"{host}:{port}", f"{HOST}:{free_port()}") as monitor:

        def found():
            query = f'{DURATIONS}_bucket{{http_route="/ping"}}'
            series = monitor.get("query_exemplars", query=query, start=since, end=time.time())
            return [exemplar["labels"] for each in series for exemplar in each["exemplars"]]

        until(lambda: found() == [labels])


def test_a_request_that_is_not_sampled_is_no_exemplar(serve):
    server = serve("fastapi-ratio")
    assert server.get_event("/ping").trace_id
    assert exemplars(server) == []
    page = server.get("/metrics", headers=[OPENMETRICS])
    assert "content-encoding" not in page.headers
    assert b'http_route="/ping"' in page.body
