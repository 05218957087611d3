"""An application with the two lines, under the servers that people run."""

import asyncio
import contextlib
import os
import signal
import time

import pytest
from backend import raw_redis
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from service import GUNICORN, REQUESTS, UVICORN, Service, are_those_of, events, served
from waiting import until

from otel_analytics import instrument
from otel_analytics.stream.connection import REPLY_TIMEOUT_SECONDS

OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

provider = TracerProvider(sampler=ALWAYS_OFF)
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=open("spans", "w"))))
trace.set_tracer_provider(provider)
"""
LONG = "30"
"""Seconds an event waits for company: only the flush at the end can have delivered it."""


@pytest.mark.parametrize(
    ("command", "workers"),
    [
        pytest.param(UVICORN, 1, id="uvicorn"),
        pytest.param((*UVICORN, "--workers=2"), 2, id="uvicorn-workers"),
        pytest.param((*GUNICORN, "--workers=2"), 2, id="gunicorn"),
        pytest.param((*GUNICORN, "--workers=2", "--preload"), 2, id="gunicorn-preload"),
    ],
)
def test_every_request_is_one_event_when_the_server_was_told_to_stop(tmp_path, redis_url, command, workers):
    environ = {
        "OTEL_ANALYTICS_REDIS_URL": redis_url,
        "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG,
    }
    service = Service(tmp_path, command, environ)
    with contextlib.ExitStack() as under_way, service.running():
        asked = service.ask_all(workers)
        # Of the other workers, what was served in the last half second may be missing.
        until(lambda: service.counted() == asked, 5)
        assert events(redis_url) == []
        under_way.enter_context(service.asking_slowly())
    assert are_those_of(events(redis_url), asked + 1)


def test_an_application_with_a_provider_of_its_own_and_settings_in_a_file(tmp_path, redis_url):
    (tmp_path / "otel-analytics.toml").write_text(
        f'redis_url = "{redis_url}"\nexport_interval_seconds = {LONG}\nkey_prefix = "shop"\n'
    )
    service = Service(tmp_path, UVICORN, {}, before=OWN_PROVIDER)
    with service.running():
        service.ask()
    assert are_those_of(events(redis_url, "shop"), REQUESTS)
    assert (tmp_path / "spans").read_text() == ""  # its sampler takes none


def test_both_lives_of_an_application_that_is_reloaded_are_recorded(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG}
    service = Service(tmp_path, (*UVICORN, "--reload"), environ)
    asked = REQUESTS
    with service.running():
        assert {answer["version"] for answer in service.ask()} == {1}
        service.write(version=2)
        version = 1
        while version == 1:
            (answer,) = service.ask(1)
            asked += 1
            version = answer["version"]
            time.sleep(0.1)
        assert {answer["version"] for answer in service.ask()} == {2}
    assert are_those_of(events(redis_url), asked + REQUESTS)


def test_requests_do_not_wait_for_a_redis_that_hangs(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": "0.01"}
    service = Service(tmp_path, UVICORN, environ)
    with service.running():
        service.ask()
        with raw_redis(redis_url) as client:
            pid = client.info()["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            service.ask()
            assert time.monotonic() - began < REPLY_TIMEOUT_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)
    assert are_those_of(events(redis_url), 2 * REQUESTS)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        pytest.param((*UVICORN, "--lifespan=off"), signal.SIGINT, id="uvicorn"),
        pytest.param((*GUNICORN, "--asgi-lifespan=off"), signal.SIGTERM, id="gunicorn"),
    ],
)
def test_without_a_lifespan_a_normal_exit_delivers_the_rest(tmp_path, redis_url, command, end):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": LONG}
    service = Service(tmp_path, command, environ)
    with service.running(end):
        service.ask()
    assert are_those_of(events(redis_url), REQUESTS)


def test_without_a_lifespan_a_killed_server_loses_no_more_than_the_last_interval(tmp_path, redis_url):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS": "0.2"}
    service = Service(tmp_path, (*UVICORN, "--lifespan=off"), environ)
    with service.running():
        service.ask()
        time.sleep(1)
    assert are_those_of(events(redis_url), REQUESTS)


def test_an_application_may_be_served_again_in_the_same_process(redis_url):
    app = FastAPI()
    instrument(app, redis_url=redis_url, export_interval_seconds=30.0, registry=CollectorRegistry())

    async def serve():
        for life in (1, 2, 3):
            async with served(app) as client:
                await client.get(f"/lives/{life}")
            assert [event.route_full for event in events(redis_url)] == [
                f"/lives/{each}" for each in range(1, life + 1)
            ]

    asyncio.run(serve())


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path, redis_url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otel-analytics.toml").write_text(
        'redis_url = "redis://127.0.0.1:1/0"\nkey_prefix = "file"\nexcluded_paths = ["/health"]\n'
    )
    monkeypatch.setenv("OTEL_ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("OTEL_ANALYTICS_KEY_PREFIX", "environment")
    app = FastAPI()
    instrument(app, key_prefix="argument", registry=CollectorRegistry())

    async def serve():
        async with served(app) as client:
            await client.get("/health")
            await client.get("/somewhere")

    asyncio.run(serve())
    assert [event.route_full for event in events(redis_url, "argument")] == ["/somewhere"]
