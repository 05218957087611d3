"""The replay through one cache of limited memory that all groups share, request by request."""

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from typing import Final, Literal, NamedTuple

from otel_analytics.analyze.replay.model import CacheModel
from otel_analytics.analyze.replay.sight import look
from otel_analytics.request_columns import RequestColumns

Policy = Literal["lru", "gdsf"]
POLICIES: Final[tuple[Policy, ...]] = ("lru", "gdsf")
_SECOND_US: Final = 1_000_000
_FOREVER: Final = 2**62


class BoundedOutcome(NamedTuple):
    """What one group got out of the shared cache.

    Attributes:
        policy: What is evicted first: `lru`, what was used longest ago; `gdsf` (greedy dual size frequency),
            what saves least for the memory it takes, by its hits, duration and size.
        ttl_seconds: The time to live.
        hits: Answered by the cache.
        saved_seconds: As in `Outcome`.
        saved_queries: As in `Outcome`.
        compared: Hits whose body and that of the copy are both known.
        stale: Of these, those that differ.
        peak_bytes: Most memory that entries of the group took together.
        evicted: Entries of the group that were evicted before they expired.
    """

    policy: Policy
    ttl_seconds: float
    hits: int
    saved_seconds: float
    saved_queries: int
    compared: int
    stale: int
    peak_bytes: int
    evicted: int

    @property
    def staleness(self) -> float | None:
        """Share of the compared hits that were stale; None where none could be compared."""
        return self.stale / self.compared if self.compared else None


class BoundedReplay:
    """A cache with one policy, one time to live and so much memory; see `Replay` for how it is fed.

    Its rules are those of the unlimited cache. An expired entry takes no memory; what is larger than all of
    the memory is not stored.
    """

    def __init__(self, model: CacheModel, *, ttl: float, memory_bytes: int, policy: Policy) -> None:
        """An empty cache.

        Args:
            model: Its rules; the times to live in it are of no account.
            ttl: Time to live in seconds.
            memory_bytes: For entries, their overhead included.
            policy: See `BoundedOutcome`.
        """
        self._model = model
        self._ttl = ttl
        self._ttl_us = max(1, round(ttl * _SECOND_US))
        self._policy: Policy = policy
        self._entries: _Entries = (_Lru if policy == "lru" else _Gdsf)(memory_bytes)
        self._flights: dict[int, _Entry] = {}
        self._landings: list[tuple[int, int, int]] = []
        self._expiries: deque[tuple[int, int]] = deque()
        self._hits: dict[int, list[int]] = {}

    def feed(self, chunk: RequestColumns) -> None:
        """Replay the next requests, in the order in which they started."""
        sight = look(chunk, per_user=self._model.per_user)
        latency, single_flight = self._model.latency_us, self._model.single_flight
        overhead = self._model.entry_overhead_bytes
        chosen = sight.cacheable
        columns = (
            chunk.start_us, chunk.duration_us, sight.key, chunk.size_bytes, chunk.queries, chunk.group,
            chunk.body, sight.storable,
        )  # fmt: skip
        for start, duration, key, size, queries, group, body, storable in zip(
            *(column[chosen].tolist() for column in columns), strict=True
        ):
            self._advance(start)
            entry = self._entries.get(key)
            waits = 0
            if entry is None and single_flight and key in self._flights:
                entry = self._flights[key]
                waits = entry.ready_us - start
            if entry is None:
                if storable:
                    self._compute(
                        key, _Entry(start + duration, max(size, 0) + overhead, duration, group, body)
                    )
                continue
            sums = self._hits.setdefault(group, [0, 0, 0, 0, 0])
            sums[0] += 1
            sums[1] += max(0, duration - latency - waits)
            sums[2] += max(0, queries)
            if body and entry.body:  # 0 is unknown
                sums[3] += 1
                sums[4] += body != entry.body

    def of(self, group: int) -> BoundedOutcome:
        """What one group got out of it, when all is fed: what is still being computed counts as stored."""
        self._land(_FOREVER)
        hits, saved_us, queries, compared, stale = self._hits.get(group, (0, 0, 0, 0, 0))
        return BoundedOutcome(
            policy=self._policy,
            ttl_seconds=self._ttl,
            hits=hits,
            saved_seconds=saved_us / _SECOND_US,
            saved_queries=queries,
            compared=compared,
            stale=stale,
            peak_bytes=self._entries.peak.get(group, 0),
            evicted=self._entries.evicted.get(group, 0),
        )

    def _compute(self, key: int, entry: "_Entry") -> None:
        """Of those that compute the same at once, the first that is ready is stored."""
        under_way = self._flights.get(key)
        if under_way is None or entry.ready_us < under_way.ready_us:
            self._flights[key] = entry
            heapq.heappush(self._landings, (entry.ready_us, len(self._landings), key))

    def _advance(self, now_us: int) -> None:
        """Store what is ready and drop what has expired, in the order of time."""
        self._land(now_us)
        self._expire(now_us)

    def _land(self, now_us: int) -> None:
        while self._landings and self._landings[0][0] <= now_us:
            ready_us, _, key = heapq.heappop(self._landings)
            self._expire(ready_us)
            entry = self._flights.get(key)
            if entry is not None and entry.ready_us == ready_us:
                del self._flights[key]
                self._entries.add(key, entry)
                self._expiries.append((ready_us + self._ttl_us, key))

    def _expire(self, now_us: int) -> None:
        while self._expiries and self._expiries[0][0] <= now_us:
            expiry_us, key = self._expiries.popleft()
            self._entries.expire(key, expiry_us - self._ttl_us)


class _Entry:
    """A copy, stored or under way."""

    __slots__ = ("body", "duration_us", "group", "ready_us", "size", "uses", "worth")

    def __init__(self, ready_us: int, size: int, duration_us: int, group: int, body: int) -> None:
        self.body = body
        self.ready_us = ready_us
        self.size = size
        self.duration_us = duration_us
        self.group = group
        self.uses = 1
        self.worth = 0.0


class _Entries(ABC):
    """What is in the cache: never more than its memory."""

    def __init__(self, memory_bytes: int) -> None:
        self._free = memory_bytes
        self._memory_bytes = memory_bytes
        self._by_key: OrderedDict[int, _Entry] = OrderedDict()
        self.evicted: dict[int, int] = {}
        self.peak: dict[int, int] = {}
        self._taken: dict[int, int] = {}

    def get(self, key: int) -> _Entry | None:
        entry = self._by_key.get(key)
        if entry is not None:
            self._use(key, entry)
        return entry

    def add(self, key: int, entry: _Entry) -> None:
        if entry.size > self._memory_bytes:
            return
        while entry.size > self._free:
            evicted = self._by_key.pop(self._worst())
            self._release(evicted)
            self.evicted[evicted.group] = self.evicted.get(evicted.group, 0) + 1
        self._free -= entry.size
        taken = self._taken[entry.group] = self._taken.get(entry.group, 0) + entry.size
        self.peak[entry.group] = max(taken, self.peak.get(entry.group, 0))
        self._by_key[key] = entry
        self._added(key, entry)

    def expire(self, key: int, since_us: int) -> None:
        """Drop the entry, unless it is a later one."""
        entry = self._by_key.get(key)
        if entry is not None and entry.ready_us == since_us:
            del self._by_key[key]
            self._release(entry)

    def _release(self, entry: _Entry) -> None:
        self._free += entry.size
        self._taken[entry.group] -= entry.size

    @abstractmethod
    def _use(self, key: int, entry: _Entry) -> None: ...

    @abstractmethod
    def _added(self, key: int, entry: _Entry) -> None: ...

    @abstractmethod
    def _worst(self) -> int:
        """The key to evict; there is one."""


class _Lru(_Entries):
    def _use(self, key: int, entry: _Entry) -> None:  # noqa: ARG002
        self._by_key.move_to_end(key)

    def _added(self, key: int, entry: _Entry) -> None:
        pass

    def _worst(self) -> int:
        return next(iter(self._by_key))


class _Gdsf(_Entries):
    """Cherkasova, Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy, 1998."""

    def __init__(self, memory_bytes: int) -> None:
        super().__init__(memory_bytes)
        self._inflation = 0.0
        # Worth only grows, so that what stands here is never too high; it is put right when it is least.
        self._heap: list[tuple[float, int, int]] = []

    def _use(self, key: int, entry: _Entry) -> None:  # noqa: ARG002
        entry.uses += 1
        entry.worth = self._inflation + entry.uses * entry.duration_us / max(1, entry.size)

    def _added(self, key: int, entry: _Entry) -> None:
        entry.worth = self._inflation + entry.duration_us / max(1, entry.size)
        heapq.heappush(self._heap, (entry.worth, entry.ready_us, key))

    def _worst(self) -> int:
        while True:
            worth, ready_us, key = heapq.heappop(self._heap)
            entry = self._by_key.get(key)
            if entry is None or entry.ready_us != ready_us:
                continue
            if entry.worth > worth:
                heapq.heappush(self._heap, (entry.worth, ready_us, key))
                continue
            self._inflation = worth
            return key
