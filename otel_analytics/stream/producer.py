"""The application's side of the stream."""

import json
import secrets
from collections.abc import Mapping, Sequence

from otel_analytics.errors import StreamFull
from otel_analytics.record import WIRE_VERSION, Event, encode_events
from otel_analytics.stream.books import Heard, tell
from otel_analytics.stream.connection import Connection
from otel_analytics.stream.keys import Keys


class Producer:
    """Adds events to the stream.

    Not shared between processes: make a new one after a fork. It promises that what `add` returned for is on
    the stream; after an error the events may or may not be there, so adding them again is right, with the
    same ids.
    """

    def __init__(self, url: str, *, key_prefix: str, max_entries: int) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            url: Where Redis is.
            key_prefix: What the names of the keys begin with.
            max_entries: High-water mark; nothing is added while the stream holds as many entries or more.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._connection = Connection(url)
        self._keys = Keys.of(key_prefix)
        self._max_entries = max_entries
        self._length = 0
        self._heard = Heard()
        self._name = secrets.token_hex(8)
        self._added = 0

    def add(self, events: Sequence[Event], dropped: Mapping[str, int]) -> int:
        """Add one entry with all the events and return how long the stream is then.

        Args:
            events: May be empty where only drops are to be reported.
            dropped: Reason to number of events given up since the last entry that was accepted. After an
                error the same again, so that they are counted once should there be two such entries.

        Raises:
            StreamFull: The stream is at its high-water mark.
            StreamUnavailable: Redis did not accept the entry, or did not say so.
        """
        self._ensure_room()
        fields: list[str | bytes | int] = [
            "v",
            WIRE_VERSION,
            "n",
            len(events),
            "events",
            encode_events(events),
        ]
        if dropped:
            fields += ["dropped", json.dumps(dict(dropped)), "report", f"{self._name}-{self._added}"]
        told = tell(self._connection, self._keys, self._heard, events=len(events), fields=fields)
        self._heard, self._length = told
        self._added += 1
        return self._length

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ensure_room(self) -> None:
        if self._length < self._max_entries:
            return
        self._length = int(self._connection.call("XLEN", self._keys.stream))
        if self._length >= self._max_entries:
            raise StreamFull(
                f"the stream {self._keys.stream} holds {self._length} entries, the most that"
                " stream_max_entries allows; is a worker running?"
            )
