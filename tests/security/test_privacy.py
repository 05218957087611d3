"""What is sent to an application and nobody may find again: not stored, not listed, not answered."""

import asyncio
import dataclasses
import datetime as dt
import threading

import pytest
from backend import HOUR, make_settings, raw_postgres, raw_redis
from fastapi import FastAPI, Header
from program import run
from prometheus_client import CollectorRegistry, generate_latest
from service import served

from otel_analytics import instrument, set_user
from otel_analytics.api import PATHS, analytics_router
from otel_analytics.keeping import keep
from otel_analytics.settings import CLIENT_FIELDS
from otel_analytics.store.connection import connect
from otel_analytics.worker import Worker

SECRET = "Zq9Zq9"
USER = "ada@lovelace.example"
TOKEN = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.{SECRET}"
MINE = "/users/{name}/orders"
ADDRESSES = (
    f"/users/{USER}/orders?by={USER}&access_token={SECRET}",
    f"/users/ada%40lovelace.example/orders?cursor=next&by=ada%40lovelace.example&t={TOKEN}",
    f"/users/bob/orders?next=https%3A%2F%2Fb.example%2F%3Fsig%3D{SECRET}%26v%3D1&X-Amz-Signature={SECRET}",
    f"/reset/{SECRET}?q=cats",
    f"/confirm/{TOKEN}",
    f"/broken?password={SECRET}",
)
HEADERS = {
    "x-user": USER,
    "authorization": f"Bearer {SECRET}",
    "cookie": f"session={SECRET}",
    "referer": f"https://shop.example/reset?token={SECRET}",
    "user-agent": "curl",
}


def shop(settings, registry):
    """An application that knows who asks, and answers for everybody what is known of its traffic."""
    app = FastAPI()

    def answer(name: str = "", x_user: str = Header("")) -> dict[str, str]:
        set_user(x_user)
        return {"secret": SECRET, "user": name}

    def fail() -> None:
        raise RuntimeError(SECRET)

    for path in (MINE, "/reset/{token}", "/confirm/{name}"):
        app.add_api_route(path, answer, methods=["GET", "POST"])
    app.add_api_route("/broken", fail)
    app.include_router(analytics_router(public=True, settings=settings))
    instrument(app, settings=settings, registry=registry)
    return app


def ask(app, *addresses):
    """The texts of the answers of one life of the application, headers and all."""

    async def asked():
        texts = []
        async with served(app) as client:
            client._transport.raise_app_exceptions = False
            for address in addresses:
                response = await client.get(address, headers=HEADERS)
                texts.append(f"{address} {response.status_code} {response.headers} {response.text}")
            await client.post(f"/users/{USER}/orders", json={"password": SECRET}, headers=HEADERS)
        return texts

    return asyncio.run(asked())


def everything(settings):
    """All that is in Redis and in every table, as text."""
    found = []
    with raw_redis(settings.redis_url) as client:
        for key in client.scan_iter():
            found.append(client.xrange(key) if client.type(key) == b"stream" else client.hgetall(key))
    with raw_postgres(settings.postgres_dsn) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND nspname = 'public'"
        ).fetchall()
        assert len(tables) > 8
        for (table,) in tables:
            found += connection.execute(f"SELECT t::text FROM {table} t").fetchall()
    return "\n".join(map(str, found))


def store(settings, registry=None):
    with Worker(settings, registry=registry or CollectorRegistry()) as worker:
        worker.run_once()
        worker._rank_if_due()
        assert worker._metrics._scores
    with connect(settings.postgres_dsn) as connection:
        assert keep(connection, settings, clock=lambda: dt.datetime.now(dt.UTC) + HOUR).rows


def let_die(settings):
    """Store what is on the stream at a time when it is too old."""
    with Worker(settings, clock=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=90)) as worker:
        assert worker.drain(threading.Event()).dead == len(ADDRESSES) + 1


@pytest.fixture
def settings(redis_url, migrated_dsn):
    return make_settings(
        redis_url,
        migrated_dsn,
        capture_client=CLIENT_FIELDS,
        worker_metrics_port=1,
        min_requests=0.0,
        min_latency=0.0,
        hash_key="a key of the test",
        export_interval_seconds=30.0,
    )


@pytest.mark.parametrize("hidden", [True, False], ids=["users hidden", "users known"])
def test_no_secret_is_stored_and_no_user_where_they_are_hidden(settings, hidden):
    settings = dataclasses.replace(settings, user_id_hmac=hidden)
    app = shop(settings, CollectorRegistry())
    ask(app, *ADDRESSES)
    store(settings)
    ask(app, *ADDRESSES)
    let_die(settings)
    stored = everything(settings)
    assert "cats" in stored
    assert "REDACTED" in stored
    assert SECRET not in stored
    spellings = (USER, USER.replace("@", "%40"))
    assert any(each in stored for each in spellings) is not hidden
    environ = {"OTEL_ANALYTICS_REDIS_URL": settings.redis_url}
    for arguments in (["dlq", "list"], ["dlq", "list", "--format", "json"]):
        listed = run(settings.postgres_dsn, *arguments, **environ)[0]
        assert "older than the days that are kept" in listed
        assert SECRET not in listed
        assert not (hidden and any(each in listed for each in spellings))


def test_neither_answers_nor_metrics_name_users_or_what_they_sent(settings):
    ours, of_worker = CollectorRegistry(), CollectorRegistry()
    app = shop(settings, ours)
    ask(app, *(address.replace("by=", "cursor=") for address in ADDRESSES))
    with Worker(settings, registry=of_worker) as worker:
        worker.run_once()
        worker._rank_if_due()
        metrics = generate_latest(of_worker).decode()
    assert f'http_route="{MINE}",pattern="next&X-Amz-Signature"' in metrics
    assert USER in everything(settings)
    questions = [f"{path}?route={MINE}&days=1" for path in PATHS]
    rankings = [f"{PATHS[0]}?ranking={each}" for each in ("absolute", "relative", "savings")]
    answers = [each.partition(" 200 ")[2] for each in ask(app, *questions, *rankings, "/metrics")]
    assert all(answers)
    assert sum(MINE in each for each in answers) >= 6
    page = run(settings.postgres_dsn, "report", "-o", "-")[0]
    for text in (metrics, page, *answers):
        assert not any(each in text for each in ("lovelace", SECRET)), text
    assert "cats" in page  # what was looked for is for those who may ask, not for those who may scrape
    assert not any("cats" in text for text in (metrics, answers[-1]))
