"""PostgreSQL's side of the ledger: what became of the events that the stream accepted."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("ledger")

_REPORT: Final = "report/"
"""In front of its name, a report is among the entries, and behind all of them."""

DeadEvents = list[tuple[int | None, str]]
"""Which events of an entry are dead, and why: the place in the entry, or None for the entry as a whole."""


class LedgerRow(NamedTuple):
    """One epoch, in events. The first three are what Redis last said, in the life that is named last."""

    epoch: str
    accepted: int
    replayed: int
    purged: int
    stored: int
    duplicates: int
    dead: int
    life: str = ""

    @property
    def unaccounted(self) -> int:
        """Events accepted, and not known to have become anything; of an epoch that is over, they are lost."""
        return self.accepted + self.replayed - self.stored - self.duplicates - self.dead


def sortable(entry_key: str) -> str:
    """An entry id padded so that its text sorts as Redis sorts ids; what follows a `/` stays behind it."""
    entry_id, slash, content = entry_key.partition("/")
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds:0>20}-{sequence:0>20}{slash}{content}"


@translated()
def open_epoch(connection: Connection, epoch: str) -> list[LedgerRow] | None:
    """Begin an epoch in the ledger.

    Returns:
        The epochs before it, latest first, where this call was the first to see the epoch; else None.
    """
    if connection.execute(_QUERIES["open_epoch"], {"epoch": epoch}).fetchone() is None:
        return None
    return [row for row in rows(connection) if row.epoch != epoch]


@translated()
def rows(connection: Connection) -> list[LedgerRow]:
    """All epochs, latest first."""
    return [LedgerRow(*row) for row in connection.execute(_QUERIES["rows"])]


@translated()
def adopt_life(connection: Connection, epoch: str, *, known: str, life: str) -> None:
    """Let figures of another life of the server count from now on, in place of those of the known one."""
    connection.execute(_QUERIES["adopt_life"], {"epoch": epoch, "known": known, "life": life})


@translated()
def raise_accepted(connection: Connection, epoch: str, count: int) -> int | None:
    """Note how far an epoch that is over had come.

    Returns:
        How many of its events are lost; None where that was known.
    """
    found = connection.execute(_QUERIES["raise_accepted"], {"epoch": epoch, "count": count}).fetchone()
    return None if found is None else max(0, int(found[0]))


@translated()
def make_durable(connection: Connection) -> None:
    """Let the COMMIT of this transaction return only when it is on disk."""
    connection.execute(_QUERIES["make_durable"])


@translated()
def claim_entries(connection: Connection, epoch: str, entry_keys: Sequence[str]) -> set[str]:
    """Enter the entries (see `Entry.key`) in the ledger, waiting for other workers that hold the same.

    Returns:
        Those that were not in it yet. Only they may be stored and counted.
    """
    padded = {sortable(entry_key): entry_key for entry_key in entry_keys}
    found = connection.execute(_QUERIES["claim_entries"], {"epoch": epoch, "ids": sorted(padded)})
    return {padded[entry_key] for (entry_key,) in found}


@translated()
def claim_reports(connection: Connection, epoch: str, names: Sequence[str]) -> set[str]:
    """Enter reports of drops in the ledger; returns those that were not in it yet."""
    keys = {f"{_REPORT}{name}": name for name in names}
    found = connection.execute(_QUERIES["claim_entries"], {"epoch": epoch, "ids": sorted(keys)})
    return {keys[key] for (key,) in found}


@translated()
def record_dead(connection: Connection, epoch: str, dead: Mapping[str, DeadEvents]) -> None:
    """Remember which events of the entries are dead letters, for a redelivery that has to write them."""
    for entry_key, events in dead.items():
        parameters = {"epoch": epoch, "id": sortable(entry_key), "dead": json.dumps(events)}
        connection.execute(_QUERIES["record_dead"], parameters)


@translated()
def recorded_dead(connection: Connection, epoch: str, entry_keys: Sequence[str]) -> dict[str, DeadEvents]:
    """The dead letters of entries that are in the ledger already; only entries that have some."""
    padded = {sortable(entry_key): entry_key for entry_key in entry_keys}
    found = connection.execute(_QUERIES["recorded_dead"], {"epoch": epoch, "ids": list(padded)})
    return {padded[entry_key]: [(index, reason) for index, reason in dead] for entry_key, dead in found}


@translated()
def known_entries(connection: Connection, epoch: str, entry_keys: Sequence[str]) -> set[str]:
    """Those of the entries that are in the ledger."""
    padded = {sortable(entry_key): entry_key for entry_key in entry_keys}
    found = connection.execute(_QUERIES["known_entries"], {"epoch": epoch, "ids": list(padded)})
    return {padded[entry_key] for (entry_key,) in found}


@translated()
def add(connection: Connection, row: LedgerRow) -> None:
    """Add to an epoch what became of a batch, and note what Redis last said."""
    connection.execute(_QUERIES["add"], row._asdict())


@translated()
def add_drops(connection: Connection, hour: dt.datetime, drops: Mapping[str, int]) -> None:
    """Add events that applications had to give up, by reason."""
    reasons = sorted(drops)
    counts = [drops[reason] for reason in reasons]
    connection.execute(_QUERIES["add_drops"], {"hour": hour, "reasons": reasons, "counts": counts})


@translated()
def drops(connection: Connection) -> dict[str, int]:
    """Events that applications had to give up, by reason, as long as hourly figures are kept."""
    return {reason: int(events) for reason, events in connection.execute(_QUERIES["drops"])}


@translated()
def drops_ever(connection: Connection) -> dict[str, int]:
    """Events that applications ever had to give up, by reason; no figure gets smaller."""
    return {reason: int(events) for reason, events in connection.execute(_QUERIES["drops_ever"])}


@translated()
def forget_entries(connection: Connection, epoch: str, first_id: str) -> int:
    """Forget entries that can never be delivered again.

    Args:
        connection: Where the ledger is.
        epoch: The current one; entries of others go a day after they were processed.
        first_id: The smallest id that may still be on the stream.
    """
    parameters = {"epoch": epoch, "first_id": sortable(first_id)}
    return connection.execute(_QUERIES["forget_entries"], parameters).rowcount


@translated()
def forget_drops(connection: Connection, before: dt.datetime) -> None:
    """Forget drops reported before a time, but for their sum in `drops_ever`."""
    connection.execute(_QUERIES["forget_drops"], {"before": before})
