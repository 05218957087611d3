"""P3: requests over HTTP, with each peer in an application behind uvicorn with one worker.

Every subject runs in a process of its own; in each round each of them is asked, in an order that moves on,
from this process: first as fast as it answers on a few connections, which is its capacity, then at a steady
rate of 70 % of what bare FastAPI can do, whether it keeps up or not. Latency at the steady rate counts from
when the request was due, so waiting for a slow one before it is part of it. All of it with handlers that do
nothing, and with some that work for about a millisecond.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection, create_server
from typing import Final, NamedTuple

from figures import Figure, compared
from peers import Subject, installed, surroundings
from subjects import BARE, BESIDE, HEADERS, NATIVE, OURS, address

ROUTES: Final = 10
ROUNDS: Final = 5
SECONDS: Final = 1.0
"""Of each measurement."""
HANDLERS: Final = (("does nothing", 0), ("works for 1 ms", 1_100))
"""What a handler does, and how many rows it writes as JSON for that."""
CONNECTIONS: Final = 8
SHARE: Final = 0.7
HOST: Final = "127.0.0.1"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


class Measured(NamedTuple):
    """What one subject did in one round.

    Attributes:
        capacity: Requests a second, as fast as it can.
        processor: Microseconds a request, all threads, at the steady rate.
        p50: Milliseconds at the steady rate.
        p99: Likewise.
    """

    capacity: float
    processor: float
    p50: float
    p99: float


def run() -> Iterator[Figure]:
    """P3."""
    names = [name for name in installed() if name not in (NATIVE, BESIDE)]
    for handler, rows in HANDLERS:
        yield from figures(measure(names, rows), handler)


def measure(names: Sequence[str], rows: int) -> dict[str, list[Measured]]:
    """Rounds of all subjects, with handlers that write so many rows as JSON."""
    rounds: dict[str, list[Measured]] = {name: [] for name in names}
    with surroundings() as around, ExitStack() as stack:
        subjects: dict[str, tuple[int, int]] = {}
        for name in names:
            port = free_port()
            subject = Subject(name, ROUTES, around, port, rows)
            stack.callback(subject.stop)
            subjects[name] = port, subject.process.pid
        for port, _ in subjects.values():
            wait_for(port)
            asyncio.run(load(port, SECONDS / 2))  # warm
        for number in range(ROUNDS):
            capacity = {
                name: asyncio.run(load(port, SECONDS)) for name, (port, _) in rotated(subjects, number)
            }
            for name, (port, pid) in rotated(subjects, number):
                rounds[name].append(steady(port, pid, capacity[name], capacity[BARE] * SHARE))
    return rounds


def rotated(subjects: dict[str, tuple[int, int]], number: int) -> list[tuple[str, tuple[int, int]]]:
    """The subjects, each round with another one first."""
    items = list(subjects.items())
    first = number % len(items)
    return items[first:] + items[:first]


def steady(port: int, pid: int, capacity: float, rate: float) -> Measured:
    """Ask at a steady rate."""
    before = processor_seconds(pid)
    latencies = sorted(asyncio.run(at_rate(port, SECONDS, rate)))
    spent = processor_seconds(pid) - before
    return Measured(
        capacity,
        spent / len(latencies) * 1e6,
        latencies[len(latencies) // 2] * 1e3,
        latencies[len(latencies) * 99 // 100] * 1e3,
    )


def figures(rounds: dict[str, list[Measured]], handler: str) -> Iterator[Figure]:
    """All of it against bare FastAPI."""
    bare = rounds[BARE]
    capacity = statistics.median(each.capacity for each in bare)
    yield Figure("P3", f"capacity of {BARE}, handler {handler}", capacity, "requests/s")
    for field, what, unit, aim in (
        ("capacity", "capacity", "requests/s", ""),
        ("processor", "processor", "us a request", ""),
        ("p50", "p50", "ms", ""),
        ("p99", "p99", "ms", "<= 1.1 x"),
    ):
        floor = [float(getattr(each, field)) for each in bare]
        for name, measured in rounds.items():
            if name != BARE:
                values = [float(getattr(each, field)) for each in measured]
                yield compared(
                    "P3",
                    f"{name}, {what}",
                    values,
                    unit,
                    against=f"{BARE}: {statistics.median(floor):,.1f}",
                    floor=floor,
                    aim=aim if name == OURS else "",
                )


class Connection:
    """One request at a time on a connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Nothing is asked yet."""
        self._reader = reader
        self._writer = writer

    async def ask(self, number: int) -> None:
        """Send a request and read the answer to its end."""
        self._writer.write(request(number))
        head = await self._reader.readuntil(_HEAD_END)
        assert head.startswith(b"HTTP/1.1 200 "), head
        await self._reader.readexactly(int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]))

    def close(self) -> None:
        """End it."""
        self._writer.close()


def request(number: int) -> bytes:
    """As it is sent."""
    path, query = address(number, ROUTES)
    head = b"".join(b"%s: %s\r\n" % header for header in HEADERS)
    return f"GET {path}?{query} HTTP/1.1\r\n".encode() + head + b"\r\n"


async def load(port: int, seconds: float) -> float:
    """Requests a second when each connection asks again as soon as it is answered."""
    until = time.perf_counter() + seconds

    async def keep_asking(connection: Connection) -> int:
        asked = 0
        while time.perf_counter() < until:
            await connection.ask(asked)
            asked += 1
        connection.close()
        return asked

    began = time.perf_counter()
    asked = await asyncio.gather(*map(keep_asking, await connections(port)))
    return sum(asked) / (time.perf_counter() - began)


async def at_rate(port: int, seconds: float, rate: float) -> list[float]:
    """Seconds that each request took, from when it was due."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in await connections(port):
        idle.put_nowait(connection)
    latencies: list[float] = []

    async def ask(number: int, due: float) -> None:
        connection = await idle.get()
        await connection.ask(number)
        latencies.append(time.perf_counter() - due)
        idle.put_nowait(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * rate)):
            due = began + number / rate
            ahead = due - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            group.create_task(ask(number, due))
    while not idle.empty():
        idle.get_nowait().close()
    return latencies


async def connections(port: int) -> list[Connection]:
    """As many as are used at once."""
    return [Connection(*await asyncio.open_connection(HOST, port)) for _ in range(CONNECTIONS)]


def processor_seconds(pid: int) -> float:
    """Of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    """Nobody listens there at the moment."""
    with create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            create_connection((HOST, port)).close()
        except OSError:
            assert time.monotonic() < deadline, "a server does not start"
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    for figure in run():
        print(figure)
