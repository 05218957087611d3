"""The router in an application of its own, over real HTTP, with a real database behind it."""

import csv
import datetime as dt
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated

import httpx
import pytest
import uvicorn
from backend import DAY, HOUR, make_event, make_settings, raw_postgres
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import APIKeyHeader
from psycopg.conninfo import make_conninfo

from otel_analytics.api import PATHS, analytics_router
from otel_analytics.api.reader import CONCURRENT, WAITING
from otel_analytics.cli.__main__ import run
from otel_analytics.errors import SettingsError, UsageError
from otel_analytics.rollup import rollup_touched
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

PREFIX = "/api/v1/analytics"
ROUTE = "/search/{id}"
NEEDED = {f"{PREFIX}/routes/patterns": {"route": ROUTE}, f"{PREFIX}/routes/trends": {"route": ROUTE}}
COMMANDS = {
    "/routes/cache-priorities?n=2&days=3": "rank -n 2 --days 3",
    "/routes/cache-priorities?ranking=relative": "rank --relative",
    "/routes/cache-priorities?ranking=savings": "rank --by savings",
    "/routes/peaks?min_requests=1&n=3": "peaks --min-requests 1 -n 3",
    "/routes/peaks/week?days=5": "peaks --heatmap --days 5",
    f"/routes/patterns?route={ROUTE}": f"patterns {ROUTE}",
    f"/routes/trends?route={ROUTE}&days=2": f"trends {ROUTE} --days 2",
    "/routes/errors?sort=share": "errors --sort share",
    "/routes/slow?sort=seconds&n=1": "slow --sort seconds -n 1",
    f"/users?route={ROUTE}": f"users {ROUTE}",
}


def admins_only(x_key: Annotated[str, Header()] = "") -> None:
    if x_key != "secret":
        raise HTTPException(403)


def key_holders_only(key: Annotated[str, Depends(APIKeyHeader(name="x-key"))]) -> None:
    if key != "secret":
        raise HTTPException(401)


@contextmanager
def serving(dsn, **options):
    """An application with the router and a route of its own; gives a client."""
    app = FastAPI()
    options = {"public": True, **options}
    refused = {401: {"description": "No such key."}}  # said by the application, as it refuses
    app.include_router(analytics_router(settings=make_settings(dsn=dsn), **options), responses=refused)
    app.add_api_route("/own", lambda: "own")  # in the thread pool that the application's sync routes share
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    host, port = listening.getsockname()
    try:
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture
def filled_dsn(migrated_dsn):
    now = dt.datetime.now(dt.UTC)
    events = [
        make_event(
            now - hours * HOUR + dt.timedelta(seconds=n),
            route=route,
            duration_ms=100.0 + n,
            status_code=500 if n % 14 == 0 else 200,
            error_type="app.Broken" if n % 14 == 0 else None,
            response_hash=None if n % 14 == 0 else 7,
            user_id=f"u{n % 5}",
            query_params_normalized={"q": str(n % 3)},
        )
        for route in (ROUTE, "/home", "/\x1b[31m\u202e")
        for hours in (1, 2, 30)
        for n in range(120)
    ]
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - 3 * DAY).date())
        rollup_touched(connection, make_settings(), now=now)
    return migrated_dsn


def test_it_is_closed_unless_it_is_said_who_may_ask(migrated_dsn):
    settings = make_settings(dsn=migrated_dsn)
    for wrong in ({}, {"public": True, "dependencies": [Depends(admins_only)]}):
        with pytest.raises(UsageError, match="may not ask"):
            analytics_router(settings=settings, **wrong)
    with pytest.raises(SettingsError, match="postgres_dsn"):
        analytics_router(settings=make_settings(dsn="postgresql://u:p@ss@h/d"), public=True)
    with serving(migrated_dsn, public=False, dependencies=[Depends(admins_only)]) as client:
        for path in PATHS:
            asked = {"params": NEEDED.get(path, {})}
            assert client.get(path, **asked).status_code == 403
            assert client.get(path, **asked, headers={"x-key": "secret"}).status_code == 200
        served = client.get("/openapi.json").json()["paths"]
    assert {path for path in served if path != "/own"} == set(PATHS)


def test_answers_are_the_json_of_the_command_line(filled_dsn, capsys, monkeypatch):
    monkeypatch.setenv("OTEL_ANALYTICS_POSTGRES_DSN", filled_dsn)
    with serving(filled_dsn) as client:
        for path, command in COMMANDS.items():
            response = client.get(PREFIX + path)
            assert run([*command.split(), "--format", "json"]) == 0
            printed = capsys.readouterr()
            assert response.text == printed.out.removesuffix("\n")
            assert response.json() != []
            assert response.headers["x-remark"] == printed.err.strip()
            assert response.headers["cache-control"] == "no-store"
            fields = list(response.json()[0])
            assert run([*command.split(), "--format", "csv"]) == 0
            assert next(csv.reader(io.StringIO(capsys.readouterr().out))) == fields
            # And OpenAPI has the same fields, each with a meaning.
            described = client.get("/openapi.json").json()
            schema = described["paths"][PREFIX + path.partition("?")[0]]["get"]["responses"]["200"]
            models = json.dumps(schema["content"])
            rows = [
                model["properties"]
                for name, model in described["components"]["schemas"].items()
                if f'schemas/{name}"' in models
            ]
            assert fields in [list(properties) for properties in rows]
            assert all(field["description"] for properties in rows for field in properties.values())


def test_long_lists_come_a_part_at_a_time(filled_dsn):
    with serving(filled_dsn) as client:
        whole = client.get(f"{PREFIX}/routes/slow")
        parts = [client.get(f"{PREFIX}/routes/slow?n=2&offset={offset}") for offset in (0, 2, 4)]
    assert [row for part in parts for row in part.json()] == whole.json()
    assert {part.headers["x-total-count"] for part in parts} == {"3"}


@pytest.mark.parametrize(
    "query",
    ["n=0", "n=1001", "n=-1", "n=x", "n=", "n=1e3", "n=99999999999999999999", "days=0", "days=401",
     "days=nan", "offset=-1", "offset=1000001"],
)  # fmt: skip
def test_nonsense_is_422(migrated_dsn, query):
    with serving(migrated_dsn) as client:
        assert client.get(f"{PREFIX}/routes/slow?{query}").status_code == 422


def test_a_role_that_may_only_read_is_enough(filled_dsn):
    with raw_postgres(filled_dsn) as connection:
        connection.execute("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    try:
        with serving(make_conninfo(filled_dsn, user="reader")) as client:
            for path in PATHS:
                assert client.get(path, params=NEEDED.get(path, {})).status_code == 200
    finally:
        with raw_postgres(filled_dsn) as connection:
            connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_a_route_can_be_any_text_but_none_that_cannot_be_one(migrated_dsn):
    with serving(migrated_dsn) as client:
        for bad in ("", "?route=", "?route=%00", "?route=/a%00", f"?route={'a' * 1_001}"):
            assert client.get(f"{PREFIX}/routes/patterns{bad}").status_code == 422
        for odd in ("%FF", "%ED%A0%80", "%0D%0AX-Evil:%201", "%F0%9F%98%80" * 999, "'; DROP TABLE x", "%25s"):
            response = client.get(f"{PREFIX}/routes/patterns?route={odd}")
            assert (response.status_code, response.json()) == (200, [])
            assert "x-evil" not in response.headers
            assert len(response.headers["x-remark"]) <= 1_000


def test_a_database_that_is_down_or_not_migrated_is_503_without_a_secret(postgres_dsn):
    with serving("postgresql://user:hidden@127.0.0.1:1/nowhere") as client:
        response = client.get(f"{PREFIX}/users")
        assert response.status_code == 503
        assert "does not answer" in response.json()["detail"]
        assert not {"hidden", "user:", "127.0.0.1"} & set(response.text.split())
        assert "hidden" not in response.text
        assert client.get("/own").json() == "own"
    with serving(postgres_dsn) as client:
        response = client.get(f"{PREFIX}/users")
        assert response.status_code == 503
        assert "otel-analytics migrate" in response.json()["detail"]


def test_slow_answers_hold_up_nobody_else(filled_dsn):
    """With the table locked, every answer waits, more of them than there are threads for."""
    crowd = CONCURRENT + WAITING + 3
    with (
        serving(filled_dsn, statement_seconds=1.0) as client,
        raw_postgres(filled_dsn) as locker,
        ThreadPoolExecutor(crowd) as threads,
    ):
        client.get("/own")
        with locker.transaction():
            locker.execute("LOCK TABLE route_analytics_hourly IN ACCESS EXCLUSIVE MODE")
            answers = [threads.submit(client.get, f"{PREFIX}/routes/slow") for _ in range(crowd)]
            time.sleep(0.3)
            took = []
            while not answers[0].done() and len(took) < 20:
                began = time.monotonic()
                assert client.get("/own").json() == "own"
                took.append(time.monotonic() - began)
            sessions = locker.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'otel-analytics'"
                " AND datname = current_database()"
            ).fetchone()
            done = [answer.result() for answer in answers[:CONCURRENT]]
        statuses = sorted(answer.result().status_code for answer in answers)
        assert len(took) == 20
        assert max(took) < 0.5
        assert sessions == (CONCURRENT,)
        # Those for which there is no room are refused at once, and told when to come again.
        assert statuses.count(503) == 3
        assert statuses.count(504) >= 1
        refused = [answer.result() for answer in answers if answer.result().status_code == 503]
        assert {response.headers["retry-after"] for response in refused} == {"5"}
        assert all("fewer days" in each.json()["detail"] for each in done if each.status_code == 504)
        assert client.get(f"{PREFIX}/routes/slow").status_code == 200


@pytest.mark.slow
def test_schemathesis_finds_no_fault(filled_dsn, tmp_path):
    """Requests made up from the OpenAPI document, right ones and wrong ones, with the key and without."""
    with serving(filled_dsn, public=False, dependencies=[Depends(key_holders_only)]) as client:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", str(client.base_url.join("/openapi.json")),
                "--include-path-regex", f"^{PREFIX}/", "--checks", "all", "--max-examples", "5",
                "--seed", "1", "--no-color", "--header", "x-key: secret",
            ],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {len(PATHS)}" in done.stdout
