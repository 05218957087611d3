"""The cache that is replayed: its rules, in numbers."""

from dataclasses import dataclass
from typing import Final

LADDER: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0)
"""Times to live, in seconds, that are tried where none is named."""
MOST_TTLS: Final = 32


@dataclass(frozen=True, slots=True)
class CacheModel:
    """The cache whose effect is asked for; docs/replay.md states its rules.

    Attributes:
        ttls: Times to live in seconds, each replayed by itself; shortest first, `MOST_TTLS` at most.
        per_user: Whether the user is a part of the key; requests of unknown users are then not cached.
        single_flight: Whether a request waits where its key is being computed, instead of computing it again.
        latency_ms: What an answer from the cache takes.
        entry_overhead_bytes: What an entry takes in memory beside its body: key, expiry, headers.
    """

    ttls: tuple[float, ...] = LADDER
    per_user: bool = False
    single_flight: bool = False
    latency_ms: float = 1.0
    entry_overhead_bytes: int = 200

    def __post_init__(self) -> None:
        """Check what the replay relies on."""
        if not 0 < len(self.ttls) <= MOST_TTLS or min(self.ttls) <= 0:
            raise ValueError(f"from 1 to {MOST_TTLS} times to live are needed, all above 0")
        if list(self.ttls) != sorted(set(self.ttls)):
            raise ValueError("times to live come shortest first, each once")

    @property
    def ttls_us(self) -> list[int]:
        """The times to live in microseconds."""
        return [max(1, round(ttl * 1e6)) for ttl in self.ttls]

    @property
    def latency_us(self) -> int:
        """What an answer from the cache takes, in microseconds."""
        return round(self.latency_ms * 1e3)
