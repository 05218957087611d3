"""The Python blocks of the README, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from backend import PREFIX, raw_redis

from otel_analytics.record import decode_events, parse_event

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
REQUESTS = {"/items/{item_id}": ("/items/7", {}), "/me": ("/me", {"x-user": "u1"})}
ASK = """

import asyncio, sys
import httpx

async def ask(path, headers):
    lifespan = asyncio.Queue()
    await lifespan.put({"type": "lifespan.startup"})
    send = lambda _: asyncio.sleep(0)
    over = asyncio.create_task(app({"type": "lifespan", "state": {}}, lifespan.get, send))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        answer = await client.get(path, headers=headers)
    await lifespan.put({"type": "lifespan.shutdown"})
    await over
    return answer.status_code

assert asyncio.run(ask(sys.argv[1], dict([sys.argv[2:]] if sys.argv[2:] else []))) == 200
"""


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r'get\("(.*?)"', block)[1])
def test_a_block_runs_and_its_request_is_recorded(block, redis_url, tmp_path):
    route = re.search(r'@app.get\("(.*?)"\)', block)[1]
    path, headers = REQUESTS[route]
    arguments = [word for item in headers.items() for word in item]
    environment = {**os.environ, "OTEL_ANALYTICS_REDIS_URL": redis_url}
    done = subprocess.run(
        [sys.executable, "-c", block + ASK, path, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with raw_redis(redis_url) as client:
        entries = client.xrange(f"{PREFIX}:stream")
    events = [parse_event(item) for _, fields in entries for item in decode_events(fields[b"events"])]
    assert [(event.route, event.status_code) for event in events] == [(route, 200)]
    assert events[0].user_id == headers.get("x-user")
