"""The replay of requests through a cache of unlimited size, at all times to live at once."""

from typing import Final

import numpy as np

from otel_analytics.analyze.replay import windows
from otel_analytics.analyze.replay.memory import Entries, PeakMemory
from otel_analytics.analyze.replay.model import CacheModel
from otel_analytics.analyze.replay.results import Evidence, GroupReplay, Outcome
from otel_analytics.analyze.replay.rows import Copies, Rows
from otel_analytics.analyze.replay.sight import COUNTED, look
from otel_analytics.analyze.replay.tallies import BusiestHour, FirstAndLast, Sums
from otel_analytics.request_columns import ERROR, Bools, Int64s, RequestColumns

_FOREVER: Final = 2**62
_SAVED: Final = (
    "hits", "joined", "stored", "saved_us", "saved_queries", "saved_bytes", "compared", "stale", "foreign",
    "foreign_stale", "masked_errors",
)  # fmt: skip
_SECOND_US: Final = 1_000_000


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
        self._saved = [Sums(_SAVED) for _ in model.ttls]
        self._busiest = BusiestHour(len(model.ttls))
        self._memory = [PeakMemory(ttl_us) for ttl_us in model.ttls_us]
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
        found = windows.fills(
            rows.rank,
            rows.place,
            rows.end,
            rows.storable,
            span=rows.span,
            single_flight=self._model.single_flight,
        )
        sources = rows.requests.take(found.at)
        overhead = self._model.entry_overhead_bytes
        entries = Entries.of(sources.group, rows.end[found.at], sources.size_bytes, overhead)
        hits = np.zeros((len(self._memory), len(chunk)), np.bool_)
        now_us = int(chunk.start_us[-1])
        alive = []
        for number, ttl_us in enumerate(self._model.ttls_us):
            firsts = windows.first_fills(found, ttl_us, *rows.certain_and_possible(found, number))
            got, served, waits_us = self._hits(rows, found, firsts, ttl_us)
            hits[number, rows.chunk_row[got]] = True
            self._save(number, rows.requests, got, served, waits_us)
            alive.append(self._settle(number, rows, found, firsts, entries=entries, now_us=now_us))
        self._busiest.add(chunk.start_us, chunk.group, hits)
        self._copies = rows.copies(found, alive)
        self._until_us = now_us

    def result(self) -> list[GroupReplay]:
        """What came of it, by number of the group; groups without a request are left out.

        Nothing can be fed afterwards.
        """
        copies, ready_us = self._copies.requests, self._copies.ready_us()
        entries = Entries.of(copies.group, ready_us, copies.size_bytes, self._model.entry_overhead_bytes)
        for number, memory in enumerate(self._memory):
            due = self._copies.at(number)
            memory.add(entries, due)
            self._saved[number].add(copies.group[due & (ready_us > self._until_us)], {"stored": None})
        return [self._of(group) for group in self._moments.groups()]

    def _of(self, group: int) -> GroupReplay:
        seen = self._seen.of(group)
        evidence = Evidence(
            seconds=seen.pop("duration_us") / _SECOND_US, span_us=self._moments.of(group), **seen
        )
        busiest_requests, *busiest_hits = self._busiest.of(group)
        outcomes = []
        for number, ttl in enumerate(self._model.ttls):
            saved = self._saved[number].of(group)
            outcomes.append(
                Outcome(
                    ttl_seconds=ttl,
                    requests=evidence.requests,
                    saved_seconds=saved.pop("saved_us") / _SECOND_US,
                    peak_bytes=self._memory[number].of(group),
                    busiest_requests=busiest_requests,
                    busiest_hits=busiest_hits[number],
                    **saved,
                )
            )
        return GroupReplay(group, evidence, tuple(outcomes))

    def _hits(
        self, rows: Rows, found: windows.Fills, firsts: Int64s, ttl_us: int
    ) -> tuple[Int64s, Int64s, Int64s]:
        """The rows that are hits, the rows whose answers they get, and what they wait for these."""
        if not len(firsts):
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, nothing
        at, ready = found.at[firsts], found.ready[firsts]
        # Every row belongs to the last first fill before it; one of another key has expired for sure.
        lengths = np.diff(at, append=len(rows.place))
        begin = int(at[0])
        place = rows.place[begin:]
        is_hit: Bools = place < np.repeat(np.minimum(ready + ttl_us, found.key_end[firsts]), lengths)
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

    def _save(
        self, number: int, requests: RequestColumns, got: Int64s, served: Int64s, waits_us: Int64s
    ) -> None:
        """Add up what the hits save."""
        body, copy_body = requests.body[got], requests.body[served]
        user, copy_user = requests.user[got], requests.user[served]
        compared = (body != 0) & (copy_body != 0)
        stale = compared & (body != copy_body)
        foreign = compared & (user != 0) & (copy_user != 0) & (user != copy_user)
        saved_us = requests.duration_us[got] - self._model.latency_us - waits_us
        values = {
            "hits": None,
            "joined": waits_us > 0,
            "saved_us": np.maximum(saved_us, 0),
            "saved_queries": np.maximum(requests.queries[got], 0),
            "saved_bytes": np.maximum(requests.size_bytes[got], 0),
            "compared": compared,
            "stale": stale,
            "foreign": foreign,
            "foreign_stale": foreign & stale,
            "masked_errors": (requests.flags[got] & ERROR) != 0,
        }
        self._saved[number].add(requests.group[got], values)

    def _settle(
        self, number: int, rows: Rows, found: windows.Fills, firsts: Int64s, *, entries: Entries, now_us: int
    ) -> Int64s:
        """Store the copies that are there by now, and name the first fills whose copies are alive."""
        source = found.source[firsts]
        ready_us = rows.end[found.at[source]] + rows.first_us
        at = found.at[firsts]
        is_there = ready_us <= now_us
        was_there = ~rows.is_new[at] & (rows.end[at] + rows.first_us <= self._until_us)
        stored = np.zeros(len(found.at), np.bool_)
        stored[source[is_there]] = True
        self._memory[number].add(entries, stored)
        new = source[is_there & ~was_there]
        self._saved[number].add(rows.requests.group[found.at[new]], {"stored": None})
        last_of_key = np.diff(rows.rank[at], append=-1) != 0
        alive: Int64s = firsts[last_of_key & (ready_us + self._model.ttls_us[number] > now_us)]
        return alive
