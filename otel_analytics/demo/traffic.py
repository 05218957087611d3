"""Live traffic: customers that ask the running shop over HTTP."""

import asyncio
import random
import time
from collections.abc import Callable

import httpx

from otel_analytics.demo.customers import Ask, Customers

_TIMEOUT_SECONDS = 15.0


async def visit(
    base_url: str,
    *,
    seconds: float,
    requests_a_second: float,
    chance: random.Random,
    progress: Callable[[int], None],
) -> int:
    """Ask at random moments for some time, whether the shop keeps up or not; returns how many answers came.

    Args:
        base_url: Of the shop.
        seconds: How long.
        requests_a_second: On average.
        chance: Where everything random comes from.
        progress: Told the number of answers so far.
    """
    customers = Customers(chance)
    answers = 0

    async with (
        httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT_SECONDS) as client,
        asyncio.TaskGroup() as tasks,
    ):

        async def ask(what: Ask) -> None:
            nonlocal answers
            headers = {} if what.user is None else {"X-Shop-User": what.user}
            try:
                await client.request(
                    what.method, what.path, params=what.params, headers=headers, json=what.body
                )
            except httpx.HTTPError:  # the shop is overloaded, which is a finding too
                return
            answers += 1
            progress(answers)

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            tasks.create_task(ask(customers.ask()))
            await asyncio.sleep(chance.expovariate(requests_a_second))
    return answers
