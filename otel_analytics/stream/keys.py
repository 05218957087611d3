"""What the keys are called, and what the ledger hash holds."""

from collections.abc import Mapping
from typing import Final, NamedTuple

GROUP: Final = "otel-analytics"
"""The one consumer group; every worker is a consumer in it."""


class Keys(NamedTuple):
    """The Redis keys of one installation."""

    stream: str
    dead: str
    ledger: str

    @classmethod
    def of(cls, prefix: str) -> "Keys":
        """The keys whose names begin with the setting `key_prefix`."""
        return cls(f"{prefix}:stream", f"{prefix}:dead", f"{prefix}:ledger")


class StreamLedger(NamedTuple):
    """What Redis knows of the ledger, counted in events since the epoch began.

    Attributes:
        epoch: Names one life of the stream; empty while nobody has written to it. It changes when Redis comes
            back empty, which is how a loss is noticed.
        accepted: Events that producers added.
        replayed: Dead events that were put back on the stream.
        purged: Dead events that were discarded for good.
    """

    epoch: str
    accepted: int
    replayed: int
    purged: int

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "StreamLedger":
        """The ledger from the reply to HGETALL."""
        return cls(
            fields.get(b"epoch", b"").decode(errors="replace"),
            int(fields.get(b"accepted", 0)),
            int(fields.get(b"replayed", 0)),
            int(fields.get(b"purged", 0)),
        )


def id_parts(entry_id: str) -> tuple[int, int]:
    """An entry id as numbers that compare as Redis compares ids: milliseconds, then sequence."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def event_count(fields: Mapping[bytes, bytes]) -> int:
    """How many events of an entry were announced as accepted.

    An entry without a readable count did not come from a producer of ours, so the ledger never heard of it:
    0.
    """
    count = fields.get(b"n", b"")
    return int(count) if count.isdigit() and len(count) <= _MAX_COUNT_DIGITS else 0


_MAX_COUNT_DIGITS: Final = 9
