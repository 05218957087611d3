"""What the keys are called, and how entries are named and counted."""

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
