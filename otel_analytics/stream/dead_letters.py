"""Events that can never be stored, kept with the reason until somebody replays or purges them."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from otel_analytics.stream.connection import Connection
from otel_analytics.stream.keys import Keys, event_count

_PAGE: Final = 500
_OURS: Final = (b"reason", b"entry", b"at")

# Each letter is moved or discarded in one step with its place in the ledger, so that two operators at once
# count it once. A replay adds the entry before it deletes the letter: out of memory, Redis refuses a script's
# first write.
_REPLAY: Final = """
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
local fields, kept = found[1][2], {}
for i = 1, #fields, 2 do
  local name = fields[i]
  if name ~= 'reason' and name ~= 'entry' and name ~= 'at' then
    kept[#kept + 1] = name
    kept[#kept + 1] = fields[i + 1]
  end
end
redis.call('XADD', KEYS[1], '*', unpack(kept))
redis.call('HINCRBY', KEYS[3], 'replayed', ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[1])
return 1
"""
_PURGE: Final = """
if redis.call('XDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[3], 'purged', ARGV[2])
return 1
"""


class NewLetter(NamedTuple):
    """A letter about to be written.

    Attributes:
        entry: Id of the entry it comes from.
        reason: Why it can never be stored.
        at: When that was found, as ISO 8601 text.
        content: The fields of an entry as they would go on the stream again: one event, or an entry that
            could not be read at all.
    """

    entry: str
    reason: str
    at: str
    content: Mapping[bytes, bytes]

    def fields(self) -> dict[bytes, bytes]:
        """The fields of the letter on the dead-letter stream."""
        ours = (self.reason.encode(), self.entry.encode(), self.at.encode())
        return {**self.content, **dict(zip(_OURS, ours, strict=True))}


class DeadLetter(NamedTuple):
    """A letter as it stands on the dead-letter stream.

    Attributes:
        id: Its id there.
        entry: Id of the entry it comes from.
        reason: Why it can never be stored.
        at: When that was found, as ISO 8601 text.
        events: How many events of the ledger it stands for.
        payload: The event in its wire form, or whatever could not be read.
    """

    id: str
    entry: str
    reason: str
    at: str
    events: int
    payload: bytes


class DeadLetters:
    """The dead-letter stream."""

    def __init__(self, url: str, *, key_prefix: str) -> None:
        """Prepare a connection; nothing is sent yet.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._connection = Connection(url)
        self._keys = Keys.of(key_prefix)

    def page(self, count: int, after: str = "0-0") -> list[DeadLetter]:
        """The oldest letters whose id is greater than `after`, `count` of them at most."""
        reply = self._connection.call("XRANGE", self._keys.dead, f"({after}", "+", "COUNT", count)
        return [_letter(letter_id.decode(), fields) for letter_id, fields in reply]

    def count(self) -> int:
        """How many letters there are."""
        return int(self._connection.call("XLEN", self._keys.dead))

    def ids(self, before_ms: int | None = None) -> list[str]:
        """Ids of all letters there are now.

        Args:
            before_ms: Only those written before this time, milliseconds since 1970 by the clock of Redis.
        """
        end = "+" if before_ms is None else f"({before_ms}-0"
        ids: list[str] = []
        start = "-"
        while reply := self._connection.call("XRANGE", self._keys.dead, start, end, "COUNT", _PAGE):
            ids += (letter_id.decode() for letter_id, _ in reply)
            start = f"({ids[-1]}"
        return ids

    def replay(self, letter_ids: Iterable[str]) -> int:
        """Put letters back on the stream, for a worker that can now store them; returns how many there were.

        A replay is not accepted anew: the ledger counts it as replayed, so that accepted + replayed =
        stored + duplicates + dead + pending.
        """
        return self._each(_REPLAY, letter_ids)

    def purge(self, letter_ids: Iterable[str]) -> int:
        """Discard letters for good and count them as purged; returns how many there were."""
        return self._each(_PURGE, letter_ids)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _each(self, script: str, letter_ids: Iterable[str]) -> int:
        done = 0
        for letter_id in letter_ids:
            found = self._connection.call("XRANGE", self._keys.dead, letter_id, letter_id)
            if found:
                done += self._connection.run_script(script, self._keys, letter_id, event_count(found[0][1]))
        return done


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    reason, entry, at = (fields.get(name, b"").decode(errors="replace") for name in _OURS)
    payload = fields.get(b"events", b"")
    return DeadLetter(letter_id, entry, reason, at, event_count(fields), payload)
