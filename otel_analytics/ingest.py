"""From the stream into the raw table: read, judge, write, COMMIT, acknowledge.

What is read stays pending until it is committed, so a crash at any point means that it is delivered again.
The ledger of entries in PostgreSQL recognises an entry that was committed before; it is then only
acknowledged.
"""

import datetime as dt
import gc
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from otel_analytics.errors import InvalidEvent, PoisonedStream, StoreUnavailable
from otel_analytics.fast_decoding import decode_right_events
from otel_analytics.record import WIRE_VERSION, Event, decode_events, is_storable, parse_event
from otel_analytics.settings import Settings
from otel_analytics.store import ledger, partitions
from otel_analytics.store.connection import Connection, MissingPartition, transaction
from otel_analytics.store.events import Prepared, insert_or_reject, prepare, utc_day
from otel_analytics.store.ledger import DeadEvents, LedgerRow
from otel_analytics.stream import Consumer, Delivery, Entry, Heard, NewLetter, StreamLedger
from otel_analytics.stream.keys import event_count

_log = logging.getLogger(__name__)

Clock = Callable[[], dt.datetime]
"""The present, with a time zone."""

_FUTURE: Final = dt.timedelta(days=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_READ_AT_MOST: Final = 100
"""Entries in one read; a bound on memory, as each may hold thousands of events."""
_SWITCH_SECONDS: Final = 0.0005
"""How long an answer of PostgreSQL waits for the thread that reads ahead; usually it is ten times as long."""
_MAX_REASONS: Final = 50
_MAX_REASON_LENGTH: Final = 64
_MAX_DROPS: Final = 2**53


@dataclass(frozen=True)
class Stored:
    """What became of a batch, or of several.

    Attributes:
        entries: Entries acknowledged, those seen before included.
        stored: Events stored.
        duplicates: Events that were stored before.
        dead: Events that went to the dead letters.
    """

    entries: int = 0
    stored: int = 0
    duplicates: int = 0
    dead: int = 0

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(
            self.entries + other.entries,
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.dead + other.dead,
        )


@dataclass
class Judged:
    """An entry sorted into what can be stored and what never can.

    Attributes:
        entry: As it was read.
        good: Events, each with its place in the entry.
        dead: Places of events that can never be stored and why; a place of None stands for the whole entry.
        drops: Events that the application had to give up, by reason.
        report: Names what reported them: an entry that was sent twice reports the same; empty where unknown.
    """

    entry: Entry
    good: list[tuple[int, Event]] = field(default_factory=list)
    dead: DeadEvents = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    report: str = ""

    @property
    def is_poison(self) -> bool:
        """Whether it holds nothing but what can never be stored."""
        return bool(self.dead) and not self.good

    def copy(self) -> "Judged":
        """One that can be changed."""
        return replace(self, good=list(self.good), dead=list(self.dead))

    @property
    def dead_events(self) -> int:
        """How many events of the ledger are dead."""
        return sum(event_count(self.entry.fields) if place is None else 1 for place, _ in self.dead)


class Batch(NamedTuple):
    """Entries to be stored in one transaction.

    Attributes:
        judged: The entries.
        ledger: What Redis said of its ledger when they were read.
        prepared: All their good events.
    """

    judged: list[Judged]
    ledger: StreamLedger
    prepared: Prepared

    @property
    def entries(self) -> list[Entry]:
        """As they were read."""
        return [each.entry for each in self.judged]


class Window(NamedTuple):
    """The times that can be stored, microseconds since 1970: from `first`, and before `end`."""

    first: int
    end: int

    @classmethod
    def at(cls, now: dt.datetime, retention_days: int) -> "Window":
        """From the oldest day that is kept, to a day from now: a clock may be wrong, but not by that much."""
        oldest = partitions.oldest_day(now, retention_days)
        midnight = dt.datetime.combine(oldest, dt.time(), tzinfo=dt.UTC)
        return cls((midnight - _EPOCH) // _MICROSECOND, (now + _FUTURE - _EPOCH) // _MICROSECOND)


def judge(entry: Entry, window: Window) -> Judged:
    """Sort an entry into what can be stored and what never can."""
    judged = Judged(entry)
    if entry.fields.get(b"v") != WIRE_VERSION.encode():
        judged.dead.append((None, "unknown version of the entry"))
        return judged
    judged.drops = _drops(entry.fields.get(b"dropped"))
    judged.report = _report(entry.fields.get(b"report", b""))
    payload = entry.fields.get(b"events", b"")
    events = decode_right_events(payload)
    if events is not None:
        times = [event.timestamp_us for event in events]
        if window.first <= min(times) and max(times) < window.end:
            judged.good = list(enumerate(events))
            return judged
    try:
        items = decode_events(payload)
    except InvalidEvent as error:
        judged.dead.append((None, str(error)))
        return judged
    for place, item in enumerate(items):
        try:
            event = parse_event(item)
            _check_time(event.timestamp_us, window)
        except InvalidEvent as error:
            judged.dead.append((place, str(error)))
        else:
            judged.good.append((place, event))
    return judged


class Ingest:
    """Reads batches and stores them. One in a process, used by one thread.

    `store` returns when the batch is committed and acknowledged. If it raises, the batch may have been
    committed or not; storing it again is right either way. Where batches are full, a thread reads the next
    one while PostgreSQL is busy.
    """

    def __init__(self, consumer: Consumer, settings: Settings, clock: Clock) -> None:
        """Nothing is read yet.

        Args:
            consumer: Where entries come from.
            settings: Sizes and limits.
            clock: The present.
        """
        self._consumer = consumer
        self._settings = settings
        self._clock = clock
        self._known = StreamLedger.of({})
        self._held: Delivery | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="otel-analytics-reader")
        self._ahead: Future[Batch | None] | None = None
        self._done: Batch | None = None
        self._poison_run = 0

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown()

    @property
    def has_read_ahead(self) -> bool:
        """Whether `read` returns what was delivered before."""
        return self._ahead is not None

    def forget_ahead(self) -> None:
        """Leave what was read ahead to whoever it is delivered to again."""
        self._ahead = None

    def read(self, block_seconds: float = 0.0) -> Batch | None:
        """The next batch; None where there is nothing to do.

        Args:
            block_seconds: How long to wait for the first entry.

        Raises:
            StreamUnavailable: Redis did not answer.
        """
        ahead, self._ahead = self._ahead, None
        batch = None if ahead is None else ahead.result()
        return batch or self._read(block_seconds)

    def store(self, connection: Connection, batch: Batch, *, read_ahead: bool = False) -> Stored:
        """Store a batch in one transaction, then write its dead letters and acknowledge it.

        Args:
            connection: Where the tables are.
            batch: As it was read.
            read_ahead: Whether the next one may be read meanwhile.

        Raises:
            PoisonedStream: So many entries in a row held nothing that can be stored that the worker has to
                stop. Their dead letters are written.
            StoreUnavailable: PostgreSQL does not answer, or does not accept writes; nothing was acknowledged.
            StreamUnavailable: Redis does not answer; what is not acknowledged is delivered again.
        """
        self._compare_books(connection, batch.ledger)
        with _collector_at_rest(), self._reader_awaited():
            new, result = self._commit(connection, batch, read_ahead=read_ahead and self._is_full(batch))
        # A hundred thousand objects: whoever reads next gives them up, while PostgreSQL is busy.
        self._done = batch
        known = [entry.key for entry in batch.entries if entry.key not in new]
        dead = {key: judged.dead for key, judged in new.items() if judged.dead}
        if known:
            dead |= ledger.recorded_dead(connection, batch.ledger.epoch, known)
        self._acknowledge(batch.entries, dead)
        self._watch_for_poison(new.values())
        return result

    def _read(self, block_seconds: float = 0.0) -> Batch | None:
        self._done = None
        wanted = self._settings.worker_batch_size
        count = max(1, min(_READ_AT_MOST, wanted // self._settings.export_batch_size))
        first, self._held = self._held or self._consumer.read(count, block_seconds), None
        if first.regrouped:
            _log.info("the stream had no consumer group; made one that begins with its oldest entry")
        entries = {entry.id: entry for entry in first.entries}
        ledger_then = first.ledger
        events, more = _announced(entries.values()), bool(entries)
        while more and events < wanted:
            size = max(1, events // len(entries))
            following = self._consumer.read(max(1, min(_READ_AT_MOST, (wanted - events) // size)))
            if following.ledger.epoch != ledger_then.epoch:
                self._held = following
                break
            ledger_then = following.ledger
            # An entry that has been in hand for long is claimed once more.
            new = {entry.id: entry for entry in following.entries if entry.id not in entries}
            entries |= new
            events, more = events + _announced(new.values()), bool(new)
        if not entries:
            return None
        window = Window.at(self._clock(), self._settings.raw_retention_days)
        with _collector_at_rest():
            judged = [judge(entry, window) for entry in entries.values()]
            return Batch(judged, ledger_then, prepare(_good_events(judged)))

    @contextmanager
    def _reader_awaited(self) -> Iterator[None]:
        """Afterwards no thread reads, and the connection to Redis is again ours alone."""
        usual = sys.getswitchinterval()
        try:
            yield
        finally:
            if self._ahead is not None:
                wait([self._ahead])
            sys.setswitchinterval(usual)

    def _begin_to_read_ahead(self) -> None:
        if self._ahead is None:
            sys.setswitchinterval(_SWITCH_SECONDS)
            self._ahead = self._reader.submit(self._read)

    def _is_full(self, batch: Batch) -> bool:
        """Whether more may be waiting; else reading ahead would only ask Redis twice."""
        return _announced(batch.entries) >= self._settings.worker_batch_size

    def _commit(
        self, connection: Connection, batch: Batch, *, read_ahead: bool
    ) -> tuple[dict[str, Judged], Stored]:
        """Store the batch; on a missing partition, make it and try once more."""
        for _ in range(2):
            judged = [each.copy() for each in batch.judged]
            try:
                return self._write(connection, batch, judged, read_ahead=read_ahead)
            except MissingPartition:
                days = {utc_day(event.timestamp_us) for each in judged for _, event in each.good}
                made = partitions.ensure(connection, days)
                _log.info("made the missing partitions of %s", ", ".join(map(str, made)) or "no day")
        raise StoreUnavailable("PostgreSQL: a partition vanished while its events were being stored")

    def _write(
        self, connection: Connection, batch: Batch, judged: Sequence[Judged], *, read_ahead: bool
    ) -> tuple[dict[str, Judged], Stored]:
        # Every worker locks in this order, and sorted within each table: entries, events, reports, drops, the
        # ledger's one row.
        with transaction(connection):
            ledger.make_durable(connection)
            keys = [entry.key for entry in batch.entries]
            new_keys = ledger.claim_entries(connection, batch.ledger.epoch, keys)
            new = {each.entry.key: each for each in judged if each.entry.key in new_keys}
            all_new = len(new) == len(judged)
            prepared = batch.prepared if all_new else prepare(_good_events(new.values()))
            if read_ahead:
                # Not earlier: each short answer would wait for the other thread to let go of the interpreter.
                self._begin_to_read_ahead()
            result = _insert(connection, list(new.values()), prepared)
            dead = {key: each.dead for key, each in new.items() if each.dead}
            ledger.record_dead(connection, batch.ledger.epoch, dead)
            drops = _total_drops(_first_reports(connection, batch.ledger.epoch, new.values()))
            if drops:
                hour = self._clock().astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
                ledger.add_drops(connection, hour, drops)
            ledger.add(connection, _ledger_row(batch.ledger, result))
        return new, Stored(len(batch.entries), result.stored, result.duplicates, result.dead)

    def _acknowledge(self, entries: Sequence[Entry], dead: Mapping[str, DeadEvents]) -> None:
        self._consumer.ack([entry.id for entry in entries if entry.key not in dead])
        at = self._clock().astimezone(dt.UTC).isoformat()
        for entry in entries:
            if entry.key in dead:
                self._consumer.settle(entry.id, _letters(entry, dead[entry.key], at))

    def _compare_books(self, connection: Connection, stream: StreamLedger) -> None:
        """Notice where Redis came back without all it had, and say so."""
        known = self._known
        if stream.epoch != known.epoch:
            known = StreamLedger.of({})
            earlier = ledger.open_epoch(connection, stream.epoch)
            if earlier:
                _log.warning(
                    "the stream began anew: Redis came back without it. Of the epoch before, at least %d"
                    " events were accepted and never stored; otel-analytics audit has the figures",
                    max(0, earlier[0].unaccounted),
                )
        if stream.earlier != known.earlier:
            self._hear_of_earlier(connection, stream)
        if stream.life != known.life or stream.heard.events < known.heard.events:
            stream = self._tell(connection, stream)
        if stream.forgotten > known.forgotten:
            _log.warning(
                "Redis came back without the last events it had accepted, %d until now. Those that were not"
                " stored before are lost; otel-analytics audit has the figures",
                stream.forgotten,
            )
        self._known = stream

    def _hear_of_earlier(self, connection: Connection, stream: StreamLedger) -> None:
        for epoch, events in stream.earlier:
            lost = ledger.raise_accepted(connection, epoch, events)
            if lost is not None:
                _log.warning(
                    "applications know of more that the stream held before it began anew: %d events were"
                    " never stored and are lost",
                    lost,
                )

    def _tell(self, connection: Connection, stream: StreamLedger) -> StreamLedger:
        """Tell a server that began another life what the books here know of the one before."""
        row = next(row for row in ledger.rows(connection) if row.epoch == stream.epoch)
        told = self._consumer.tell(Heard(row.epoch, row.life, row.accepted + row.replayed))
        ledger.adopt_life(connection, row.epoch, known=row.life, life=told.life)
        return told

    def _watch_for_poison(self, judged: Iterable[Judged]) -> None:
        longest = 0
        for each in judged:
            if each.good:
                self._poison_run = 0
            elif each.is_poison:
                self._poison_run += 1
                longest = max(longest, self._poison_run)
        if longest >= self._settings.poison_limit:
            raise PoisonedStream(
                f"{longest} entries in a row held nothing that can be stored; they are dead letters now"
                " (otel-analytics dlq list). Is a newer version of the application writing to this stream?"
            )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Let no garbage be looked for: a batch is a hundred thousand objects and no cycles.

    Going through them again and again took 40 % of the worker's processor time. The command line looks so
    seldom that it does not do it between two batches either.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()


def _good_events(judged: Iterable[Judged]) -> list[Event]:
    return [event for each in judged for _, event in each.good]


def _insert(connection: Connection, judged: Sequence[Judged], prepared: Prepared) -> Stored:
    """Store the good events; those that PostgreSQL refuses move to the dead ones of their entry."""
    inserted = insert_or_reject(connection, prepared)
    origins = [(each, place) for each in judged for place, _ in each.good] if inserted.rejected else []
    for rejection in inserted.rejected:
        each, place = origins[rejection.place]
        each.dead.append((place, rejection.reason))
        each.good = [(other, event) for other, event in each.good if other != place]
    dead = sum(each.dead_events for each in judged)
    duplicates = len(prepared.events) - inserted.stored - len(inserted.rejected)
    return Stored(len(judged), inserted.stored, duplicates, dead)


def _ledger_row(stream: StreamLedger, result: Stored) -> LedgerRow:
    return LedgerRow(
        epoch=stream.epoch,
        accepted=stream.accepted,
        replayed=stream.replayed,
        purged=stream.purged,
        stored=result.stored,
        duplicates=result.duplicates,
        dead=result.dead,
        life=stream.life,
    )


def _letters(entry: Entry, dead: DeadEvents, at: str) -> list[NewLetter]:
    """The dead letters of an entry: each could go on the stream again as it is."""
    whole = [
        NewLetter(entry.id, reason, at, _without_drops(entry)) for place, reason in dead if place is None
    ]
    single = [(place, reason) for place, reason in dead if place is not None]
    items = decode_events(entry.fields[b"events"]) if single else []
    return whole + [NewLetter(entry.id, reason, at, _content(items[place])) for place, reason in single]


def _without_drops(entry: Entry) -> dict[bytes, bytes]:
    """The fields of an entry; its drops, where they could be read, are counted and must not be replayed."""
    fields = dict(entry.fields)
    if fields.get(b"v") == WIRE_VERSION.encode():
        fields.pop(b"dropped", None)
        fields.pop(b"report", None)
    return fields


def _content(item: Any) -> dict[bytes, bytes]:
    try:
        events = json.dumps([item])
    except RecursionError:  # nested so deeply that it can be read but not written again
        events = "[null]"
    return {b"v": WIRE_VERSION.encode(), b"n": b"1", b"events": events.encode()}


def _check_time(timestamp_us: int, window: Window) -> None:
    if timestamp_us < window.first:
        raise InvalidEvent("timestamp_us is older than the days that are kept (raw_retention_days)")
    if timestamp_us >= window.end:
        raise InvalidEvent("timestamp_us is more than a day in the future")


def _drops(payload: bytes | None) -> dict[str, int]:
    """The drops an entry reports; what cannot be read is left out, as nothing of ours writes such a thing."""
    if payload is None:
        return {}
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return {reason: count for reason, count in _items(content)[:_MAX_REASONS] if _is_drop(reason, count)}


def _items(content: Any) -> list[tuple[Any, Any]]:
    return list(content.items()) if isinstance(content, dict) else []


def _is_drop(reason: str, count: Any) -> bool:
    readable = len(reason) <= _MAX_REASON_LENGTH and is_storable(reason)
    return readable and type(count) is int and 0 < count < _MAX_DROPS


def _report(name: bytes) -> str:
    text = name.decode(errors="replace")
    return text if len(text) <= _MAX_REASON_LENGTH and is_storable(text) else ""


def _first_reports(connection: Connection, epoch: str, judged: Iterable[Judged]) -> list[Judged]:
    """Those that report drops for the first time."""
    reporting = [each for each in judged if each.drops]
    named = {each.report: each for each in reporting if each.report}
    new = ledger.claim_reports(connection, epoch, list(named)) if named else set()
    return [each for each in reporting if not each.report] + [named[name] for name in new]


def _total_drops(judged: Iterable[Judged]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for each in judged:
        for reason, count in each.drops.items():
            totals[reason] = totals.get(reason, 0) + count
    return totals


def _announced(entries: Iterable[Entry]) -> int:
    return sum(event_count(entry.fields) for entry in entries)
