"""The books: every accepted event is stored, a duplicate, dead or pending, or found to be missing."""

from collections.abc import Mapping
from dataclasses import dataclass

from otel_analytics.store import ledger as store_ledger
from otel_analytics.store.connection import Connection, snapshot
from otel_analytics.store.ledger import LedgerRow
from otel_analytics.stream import Heard, Inspector
from otel_analytics.stream.keys import event_count


@dataclass(frozen=True)
class AuditReport:
    """The ledger at one moment, in events.

    `accepted + replayed = stored + duplicates + dead + pending` when it balances.

    Attributes:
        epoch: The present life of the stream; empty where nothing was ever accepted.
        accepted: Added to the stream by applications.
        replayed: Dead events put back on the stream. They stay in `dead`, and are counted anew as what they
            become.
        stored: In the raw table, or once there and dropped after its retention.
        duplicates: Sent twice and recognised.
        dead: Ever sent to the dead letters, those replayed and purged since included.
        purged: Dead events discarded for good.
        pending: On the stream and not stored yet, counted there entry by entry.
        dead_letters: Entries on the dead-letter stream now.
        drops: Events that applications gave up before they were accepted, by reason.
        lost_in_earlier_epochs: Accepted before Redis came back empty and never stored, as far as a worker had
            seen.
    """

    epoch: str
    accepted: int
    replayed: int
    stored: int
    duplicates: int
    dead: int
    purged: int
    pending: int
    dead_letters: int
    drops: Mapping[str, int]
    lost_in_earlier_epochs: int

    @property
    def difference(self) -> int:
        """Events missing; below zero, events that came to the stream without being counted as accepted."""
        return self.accepted + self.replayed - self.stored - self.duplicates - self.dead - self.pending

    @property
    def balanced(self) -> bool:
        """Whether every accepted event is accounted for."""
        return self.difference == 0


def audit(stream: Inspector, connection: Connection) -> AuditReport:
    """Add up the ledger while everything runs.

    The order is what makes the figures fit each other. First an id before which all is processed, then one
    state of PostgreSQL, then one state of Redis: whatever was accepted by then and is not in that state of
    PostgreSQL lies on the stream between the two ids, acknowledged in the meantime or not.

    Args:
        stream: Redis's side.
        connection: PostgreSQL's side; not inside a transaction.

    Raises:
        StreamUnavailable: Redis does not answer.
        StoreUnavailable: PostgreSQL does not answer.
        NotMigrated: The tables are missing.
    """
    first_id = stream.first_unprocessed()
    with snapshot(connection):
        rows = store_ledger.rows(connection)
        drops = store_ledger.drops(connection)
        ours, last_id = stream.ledger_and_last_id()
        pending = _pending(stream, connection, ours.epoch, first_id, last_id)
    row = next((row for row in rows if row.epoch == ours.epoch), LedgerRow(ours.epoch, 0, 0, 0, 0, 0, 0))
    # A server that came back a little behind may not have been told yet.
    forgotten = ours.lacks(Heard(row.epoch, row.life, row.accepted + row.replayed))
    earlier = (row.unaccounted for row in rows if row.epoch != ours.epoch)
    return AuditReport(
        epoch=ours.epoch,
        accepted=ours.accepted + forgotten,
        replayed=ours.replayed,
        stored=row.stored,
        duplicates=row.duplicates,
        dead=row.dead,
        purged=ours.purged,
        pending=pending,
        dead_letters=stream.status().dead_letters,
        drops=drops,
        lost_in_earlier_epochs=sum(max(0, each) for each in earlier),
    )


def _pending(stream: Inspector, connection: Connection, epoch: str, first_id: str, last_id: str) -> int:
    """Events of the entries between the ids, without entries that are committed and not acknowledged yet."""
    pending = 0
    for page in stream.pages(first_id, last_id):
        known = store_ledger.known_entries(connection, epoch, [entry.key for entry in page])
        pending += sum(event_count(entry.fields) for entry in page if entry.key not in known)
    return pending
