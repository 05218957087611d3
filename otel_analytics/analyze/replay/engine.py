"""The replay of requests through a cache of unlimited size, at all times to live at once."""

from typing import Final, NamedTuple

import numpy as np

from otel_analytics.analyze.replay import windows
from otel_analytics.analyze.replay.memory import Entries, PeakMemory
from otel_analytics.analyze.replay.model import CacheModel
from otel_analytics.analyze.replay.results import Evidence, GroupReplay, Outcome
from otel_analytics.analyze.replay.rows import Copies, Rows
from otel_analytics.analyze.replay.sight import COUNTED, look
from otel_analytics.analyze.replay.tallies import BusiestHour, FirstAndLast, Sums, Truths
from otel_analytics.request_columns import ERROR, Bools, Int32s, Int64s, RequestColumns

_FOREVER: Final = 2**62
_SECOND_US: Final = 1_000_000
_OF_HITS: Final = ("compared", "stale", "foreign", "foreign_stale", "masked_errors", "joined")


class Replay:
    """Feed it requests in the order in which they started, then ask for the result.

    The result is the same however the requests are divided into chunks. What it keeps between chunks is one
    row for each copy that is still alive, and the sums of each group.
    """

    def __init__(self, model: CacheModel) -> None:
        """An empty cache.

        Args:
            model: Its rules.
        """
        self._model = model
        self._seen, self._moments = Sums(COUNTED), FirstAndLast()
        self._busiest = BusiestHour(len(model.ttls))
        self._by_ttl = [_AtOneTtl(number, ttl_us, model) for number, ttl_us in enumerate(model.ttls_us)]
        self._copies = Copies.none()
        self._until_us = -_FOREVER

    def feed(self, chunk: RequestColumns) -> None:
        """Replay the next requests.

        Args:
            chunk: None of them started before the last one of the chunk before.

        Raises:
            ValueError: They are not in the order of time.
        """
        if not len(chunk):
            return
        if chunk.start_us[0] < self._until_us or np.any(np.diff(chunk.start_us) < 0):
            raise ValueError("requests must come in the order in which they started")
        sight = look(chunk, per_user=self._model.per_user)
        try:
            rows = Rows.sorted(self._copies, chunk, sight.key, sight.cacheable, sight.storable)
        except OverflowError:
            if len(chunk) == 1:
                raise
            self.feed(chunk.take(slice(0, len(chunk) // 2)))
            self.feed(chunk.take(slice(len(chunk) // 2, None)))
            return
        self._seen.add(chunk.group, sight.counts)
        self._moments.add(chunk.start_us, chunk.group)
        view = _View.of(rows, self._model, since_us=self._until_us, now_us=int(chunk.start_us[-1]))
        hits = np.zeros((len(self._by_ttl), len(chunk)), np.bool_)
        alive = [each.replay(view, hit) for each, hit in zip(self._by_ttl, hits, strict=True)]
        self._busiest.add(chunk.start_us, chunk.group, hits)
        self._copies = rows.copies(view.found, alive)
        self._until_us = view.now_us

    def result(self, *, min_requests: int = 0) -> list[GroupReplay]:
        """What came of it, by number of the group; groups without a request are left out.

        Nothing can be fed afterwards.

        Args:
            min_requests: Groups with fewer requests get no outcomes: there may be very many.
        """
        self._finish()
        groups = self._moments.groups()
        sums = self._seen.totals(groups)
        seen = {**sums, "seconds": _seconds(sums["duration_us"]), "span_us": self._moments.totals(groups)}
        columns = (seen[name] for name in Evidence._fields)
        evidence = [Evidence._make(values) for values in zip(*columns, strict=True)]
        wanted = groups[np.array(sums["requests"], np.int64) >= min_requests]
        requests = self._seen.totals(wanted)["requests"]
        busiest, *busiest_hits = self._busiest.totals(wanted)
        outcomes = [
            each.outcomes(wanted, requests, busiest, hits)
            for each, hits in zip(self._by_ttl, busiest_hits, strict=True)
        ]
        by_group = dict(zip(wanted.tolist(), zip(*outcomes, strict=True), strict=True))
        return [
            GroupReplay(group, seen_of_it, by_group.get(group, ()))
            for group, seen_of_it in zip(groups.tolist(), evidence, strict=True)
        ]

    def _finish(self) -> None:
        """Let all that is under way be stored."""
        copies, ready_us = self._copies.requests, self._copies.ready_us()
        entries = Entries.of(copies.group, ready_us, copies.size_bytes, self._model.entry_overhead_bytes)
        for number, each in enumerate(self._by_ttl):
            here = self._copies.at(number)
            each.store(entries, here, copies.group[here & (ready_us > self._until_us)])
        self._copies = Copies.none()


class _View(NamedTuple):
    """A chunk, prepared for all times to live.

    Attributes:
        rows: Sorted by key.
        found: Of the rows, those whose answers may be stored. What follows is about these.
        entries: The answers, as they would lie in memory.
        first_new: The first new one of each key.
        is_new: Which are requests of the chunk.
        ready_us: When the copy is there that the request leads to.
        was_there: Whether it is a copy that was stored before.
        now_us: Start of the last request.
    """

    rows: Rows
    found: windows.Fills
    entries: Entries
    first_new: Int64s
    is_new: Bools
    ready_us: Int64s
    was_there: Bools
    now_us: int

    @classmethod
    def of(cls, rows: Rows, model: CacheModel, *, since_us: int, now_us: int) -> "_View":
        found = windows.fills(
            rows.rank,
            rows.place,
            rows.end,
            rows.storable,
            span=rows.span,
            single_flight=model.single_flight,
        )
        at = found.at
        end = rows.end[at]
        entries = Entries.of(
            rows.requests.group[at], end, rows.requests.size_bytes[at], model.entry_overhead_bytes
        )
        ready_us = found.ready - (found.key_end - rows.span) + rows.first_us
        is_new = rows.is_new[at]
        was_there = ~is_new & (end + rows.first_us <= since_us)
        return cls(rows, found, entries, rows.first_new(found), is_new, ready_us, was_there, now_us)


class _AtOneTtl:
    """The cache at one time to live: what it saved, and the memory it took."""

    def __init__(self, number: int, ttl_us: int, model: CacheModel) -> None:
        self._number = number
        self._ttl_us = ttl_us
        self._model = model
        self._of_hits = Truths(_OF_HITS)
        self._saved = Sums(("saved_us", "saved_queries", "saved_bytes"))
        self._stored = Sums(("stored",))
        self._memory = PeakMemory(ttl_us)

    def replay(self, view: _View, is_hit: Bools) -> Int64s:
        """Replay a chunk.

        Args:
            view: The chunk.
            is_hit: To be set for the requests of the chunk, in the order of time, that are hits.

        Returns:
            The requests whose copies are alive after the chunk, as indexes into `view.found`.
        """
        rows, found = view.rows, view.found
        certain = rows.certain(found, view.first_new, self._number)
        firsts = windows.first_fills(found, self._ttl_us, certain, view.is_new)
        got, served, waits_us = self._hits(rows, found, firsts)
        is_hit[rows.chunk_row[got]] = True
        self._save(rows.requests, got, served, waits_us)
        source, ready_us = found.source[firsts], view.ready_us[firsts]
        is_there = ready_us <= view.now_us
        here = np.zeros(len(found.at), np.bool_)
        here[source[is_there]] = True
        new = source[is_there & ~view.was_there[firsts]]
        self.store(view.entries, here, rows.requests.group[found.at[new]])
        last_of_key = np.diff(found.key_end[firsts], append=-1) != 0
        alive: Int64s = firsts[last_of_key & (ready_us + self._ttl_us > view.now_us)]
        return alive

    def store(self, entries: Entries, here: Bools, new_groups: Int32s) -> None:
        """Account for entries: all that are in the cache, and the groups of those that have newly come."""
        self._memory.add(entries, here)
        self._stored.add(new_groups, {"stored": None})

    def outcomes(
        self, groups: Int64s, requests: list[int], busiest: list[int], busiest_hits: list[int]
    ) -> list[Outcome]:
        """Of some groups."""
        of_hits, saved = self._of_hits.totals(groups), self._saved.totals(groups)
        found = {
            **of_hits,
            **saved,
            **self._stored.totals(groups),
            "ttl_seconds": [self._model.ttls[self._number]] * len(groups),
            "requests": requests,
            "hits": of_hits["all"],
            "saved_seconds": _seconds(saved["saved_us"]),
            "peak_bytes": self._memory.totals(groups),
            "busiest_requests": busiest,
            "busiest_hits": busiest_hits,
        }
        # By position: there may be many, and sixteen names each time would take three times as long.
        columns = (found[name] for name in Outcome._fields)
        return [Outcome._make(values) for values in zip(*columns, strict=True)]

    def _hits(self, rows: Rows, found: windows.Fills, firsts: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """The rows that are hits, the rows whose answers they get, and what they wait for these."""
        if not len(firsts):
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, nothing
        at, ready = found.at[firsts], found.ready[firsts]
        # Every row belongs to the last first fill before it; one of another key has expired for sure.
        lengths = np.diff(at, append=len(rows.place))
        begin = int(at[0])
        place = rows.place[begin:]
        is_hit: Bools = place < np.repeat(np.minimum(ready + self._ttl_us, found.key_end[firsts]), lengths)
        is_hit &= rows.is_new[begin:]
        if self._model.single_flight:
            is_hit[at - begin] = False
        else:
            is_hit &= place >= np.repeat(ready, lengths)
        got = np.flatnonzero(is_hit)
        which = np.repeat(np.arange(len(firsts)), lengths)[got]
        got += begin
        served = found.at[found.source[firsts]][which]
        # Who computes the copy is no hit, nor who came before it in the same microsecond.
        later = got > served
        if not later.all():
            got, served, which = got[later], served[later], which[later]
        return got, served, np.maximum(ready[which] - rows.place[got], 0)

    def _save(self, requests: RequestColumns, got: Int64s, served: Int64s, waits_us: Int64s) -> None:
        """Add up what the hits save."""
        body, copy_body = requests.body[got], requests.body[served]
        user, copy_user = requests.user[got], requests.user[served]
        compared = (body != 0) & (copy_body != 0)
        stale = compared & (body != copy_body)
        foreign = compared & (user != 0) & (copy_user != 0) & (user != copy_user)
        masked = (requests.flags[got] & ERROR) != 0
        truths = np.zeros(len(got), np.uint8)
        for bit, each in enumerate((compared, stale, foreign, foreign & stale, masked, waits_us > 0)):
            truths |= each.astype(np.uint8) << np.uint8(bit)
        group = requests.group[got]
        self._of_hits.add(group, truths)
        saved_us = requests.duration_us[got] - self._model.latency_us - waits_us
        values = {
            "saved_us": np.maximum(saved_us, 0),
            "saved_queries": np.maximum(requests.queries[got], 0),
            "saved_bytes": np.maximum(requests.size_bytes[got], 0),
        }
        self._saved.add(group, values)


def _seconds(microseconds: list[int]) -> list[float]:
    return [each / _SECOND_US for each in microseconds]
