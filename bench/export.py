"""P4: events from the buffer to Redis, against one entry an event with a field for each value.

Both take the same events in batches of 500. Processor time is that of the process, all threads; the time that
passes has Redis in it.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import redis
from figures import Figure, compared

from otel_analytics.demo.past import past_events
from otel_analytics.embedded import redis_server
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.stream import Keys
from otel_analytics_exporters.delivery import Delivery
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

EVENTS: Final = 20_000
BATCH: Final = 500
ROUNDS: Final = 7
FOREVER: Final = 60.0


class Spent(NamedTuple):
    """What a round took, in microseconds an event."""

    processor: float
    wall: float


def run() -> Iterator[Figure]:
    """P4."""
    now = datetime.now(UTC) - timedelta(minutes=2)
    chance = random.Random(1)  # noqa: S311 - the same events each time
    events = list(islice(past_events(now=now, days=1, requests_a_day=2 * EVENTS, chance=chance), EVENTS))
    assert len(events) == EVENTS
    ours, plain = [], []
    with TemporaryDirectory(prefix="otel-analytics-") as folder, redis_server(Path(folder)) as url:
        for _ in range(ROUNDS):
            ours.append(spent(delivered, url, events))
            plain.append(spent(pipelined, url, events))
    against = f"XADD an event, fields, pipelined by {BATCH}"
    processor = [each.processor for each in plain]
    yield Figure("P4", "an XADD an event, processor", sorted(processor)[ROUNDS // 2], "us an event")
    yield compared(
        "P4",
        "export, processor",
        [each.processor for each in ours],
        "us an event",
        against=against,
        floor=processor,
        aim="<= 5 us",
    )
    yield compared(
        "P4",
        "export, throughput",
        [1e6 / each.wall for each in ours],
        "events/s",
        against=against,
        floor=[1e6 / each.wall for each in plain],
        aim=">= 3 x",
    )


def spent(send: Callable[[str, Sequence[Event]], int], url: str, events: Sequence[Event]) -> Spent:
    """Send them to an empty Redis, which must hold all of them afterwards."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
    processor, wall = time.process_time(), time.perf_counter()
    arrived = send(url, events)
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    assert arrived == len(events), arrived
    return Spent(processor / len(events) * 1e6, wall / len(events) * 1e6)


def delivered(url: str, events: Sequence[Event]) -> int:
    """As an application does, from offering them to the last answer of Redis."""
    settings = Settings(redis_url=url, stream_max_entries=10 * EVENTS)
    delivery = Delivery(
        RedisStreamSpanExporter(settings), buffer_size=2 * EVENTS, batch_size=BATCH, interval_seconds=0.5
    )
    for event in events:
        delivery.offer(event)
    assert delivery.close(FOREVER)
    with redis.Redis.from_url(url) as client:
        return int(client.hget(Keys.of(settings.key_prefix).ledger, "accepted") or 0)


def pipelined(url: str, events: Sequence[Event]) -> int:
    """As one would write it down first."""
    with redis.Redis.from_url(url) as client:
        rest = iter(events)
        while batch := list(islice(rest, BATCH)):
            with client.pipeline(transaction=False) as pipeline:
                for event in batch:
                    pipeline.xadd("events", _fields(event))
                pipeline.execute()
        return int(client.xlen("events"))


def _fields(event: Event) -> dict[str, str | float]:
    fields = event._asdict()
    return {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


if __name__ == "__main__":
    for figure in run():
        print(figure)
