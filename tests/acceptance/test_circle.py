"""The circle closed: what the replay of recorded traffic predicts is what a real cache then does."""

import asyncio
import contextlib
import datetime as dt
import itertools
import os
import random
import socket
import subprocess
import sys
import time

import httpx
import pytest
from backend import make_settings, make_worker, raw_postgres, scalar

from otel_analytics.analyze.replay import CacheModel
from otel_analytics.simulation import simulate
from otel_analytics.store.connection import connect

APP = '''
"""A shop with one route, and the cache that may be switched on in it: GET, 2xx, SET NX, a time to live."""

import asyncio
import os

import redis.asyncio
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute

from otel_analytics import instrument

TTL_MS = int(os.environ["TTL_MS"])
cache = redis.asyncio.Redis.from_url(os.environ["CACHE_URL"])


class CachedRoute(APIRoute):
    def get_route_handler(self):
        compute = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method != "GET":
                return await compute(request)
            key = f"cache:{request.url.path}?{sorted(request.query_params.multi_items())}"
            if (body := await cache.get(key)) is not None:
                return Response(body, media_type="application/json", headers={"X-Cache": "HIT"})
            response = await compute(request)
            if 200 <= response.status_code < 300:
                await cache.set(key, response.body, px=TTL_MS, nx=True)
            response.headers["X-Cache"] = "MISS"
            return response

        return answer


router = APIRouter(route_class=CachedRoute if TTL_MS else APIRoute)


@router.get("/items/{number}")
async def item(number: int, response: Response, lang: str = "en"):
    await asyncio.sleep(0.03)
    if number == 13:
        response.status_code = 404
    return {"number": number, "lang": lang}


app = FastAPI()
app.include_router(router)
instrument(app)
'''
TTL = 1.0
SECONDS = 6.0
REQUESTS = 420
ROUTE = "/items/{number}"


def traffic():
    """When to ask for what: things as popular as Zipf has it, at random moments."""
    chance = random.Random(7)
    things = [f"/items/{number}?lang={lang}" for number, lang in itertools.product(range(20), ("en", "sv"))]
    chance.shuffle(things)
    asked = chance.choices(things, weights=[1 / place for place in range(1, len(things) + 1)], k=REQUESTS)
    return sorted(zip((chance.uniform(0, SECONDS) for _ in asked), asked, strict=True))


@contextlib.contextmanager
def shop(folder, redis_url, *, ttl):
    """The application under uvicorn; gives its socket. When the block ends, all its events are delivered."""
    path = folder / "socket"
    environ = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "CACHE_URL": redis_url,
        "TTL_MS": str(round(ttl * 1_000)),
        "OTEL_ANALYTICS_REDIS_URL": redis_url,
    }
    command = [sys.executable, "-m", "uvicorn", f"--uds={path}", "--log-level=warning", "shop:app"]
    process = subprocess.Popen(command, cwd=folder, env=environ)
    try:
        deadline = time.monotonic() + 20
        while not answers(path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield path
        process.terminate()
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def answers(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


async def send(path):
    """All of the traffic, each request at its moment, whether those before it are answered or not."""
    transport = httpx.AsyncHTTPTransport(uds=str(path), limits=httpx.Limits(max_connections=100))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=10) as client:
        await client.get("/warm-up")
        begin = asyncio.get_running_loop().time() + 0.1

        async def ask(moment, target):
            await asyncio.sleep(begin + moment - asyncio.get_running_loop().time())
            return (await client.get(target)).status_code

        return await asyncio.gather(*(ask(*each) for each in traffic()))


@pytest.mark.slow
def test_a_real_cache_has_the_hit_ratio_that_the_replay_predicted(tmp_path, redis_url, migrated_dsn):
    (tmp_path / "shop.py").write_text(APP)
    settings = make_settings(redis_url, migrated_dsn, days=1)

    with shop(tmp_path, redis_url, ttl=0) as path:
        assert set(asyncio.run(send(path))) == {200, 404}
    with make_worker(settings, dt.datetime.now(dt.UTC)) as worker:
        worker.run_once()
    with connect(migrated_dsn) as connection:
        found = simulate(
            connection, settings, CacheModel(ttls=(TTL,)), now=dt.datetime.now(dt.UTC), route=ROUTE
        )
    outcomes = [each.outcomes[0] for each in found.patterns]
    assert sum(each.requests for each in outcomes) == REQUESTS
    predicted = sum(each.hits for each in outcomes) / REQUESTS

    with shop(tmp_path, redis_url, ttl=TTL) as path:
        asyncio.run(send(path))
    with make_worker(settings, dt.datetime.now(dt.UTC)) as worker:
        worker.run_once()
    with raw_postgres(migrated_dsn) as connection:
        counted = "SELECT count(*) FROM route_analytics WHERE route = %s AND cache_status = %s"
        hits, misses = (scalar(connection, counted, ROUTE, status) for status in ("hit", "miss"))
    assert hits + misses == REQUESTS
    realised = hits / REQUESTS

    assert 0.3 < predicted < 0.9
    assert abs(predicted - realised) <= 0.02
