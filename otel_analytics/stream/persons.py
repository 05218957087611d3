"""What Redis holds of one person, taken out of it."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from otel_analytics.stream.connection import Connection, Refused
from otel_analytics.stream.consumer import Entry
from otel_analytics.stream.dead_letters import DeadLetters
from otel_analytics.stream.inspector import Inspector
from otel_analytics.stream.keys import Keys, id_parts

_PAGE: Final = 50
_POLL_SECONDS: Final = 0.2

# KEYS: the dead letters, a name for their copy. Redis keeps the bytes of an entry that is deleted as long as
# entries beside it live; in a copy they are not. Copied first, since a full Redis refuses a script's first
# write.
_REWRITE: Final = """
for _, letter in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  redis.call('XADD', KEYS[2], letter[1], unpack(letter[2]))
end
if redis.call('XLEN', KEYS[1]) > 0 then
  redis.call('RENAME', KEYS[2], KEYS[1])
else
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
end
"""

IsAbout = Callable[[bytes], bool]
"""Told the events of an entry as they stand on the stream, says whether the person is in them."""


class PersonsOnStream:
    """The entries and dead letters in which somebody is."""

    def __init__(self, url: str, *, key_prefix: str) -> None:
        """Prepare connections; nothing is sent yet.

        Args:
            url: Where Redis is.
            key_prefix: What the names of the keys begin with.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._connection = Connection(url)
        self._inspector = Inspector(url, key_prefix=key_prefix)
        self._letters = DeadLetters(url, key_prefix=key_prefix)
        self._keys = Keys.of(key_prefix)

    def last_id(self) -> str:
        """Id of the newest entry; `0-0` where there is none."""
        _, last_id = self._inspector.ledger_and_last_id()
        return last_id

    def wait_until_processed(self, last_id: str, seconds: float) -> bool:
        """Wait until workers are through with everything up to an entry; False where they are not in time."""
        deadline = time.monotonic() + seconds
        while not self._is_processed(last_id):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def remove_entries(self, is_about: IsAbout, last_id: str) -> int:
        """Delete entries up to `last_id`, all of which are processed; returns how many.

        An entry holds the events of many, and Redis keeps the bytes of one that is deleted as long as its
        neighbours live. So where the person is in one of them, all of them go.
        """
        if not any(is_about(entry.fields.get(b"events", b"")) for entry in self._entries(last_id)):
            return 0
        trimmed = self._connection.call("XTRIM", self._keys.stream, "MINID", "=", last_id)
        return int(trimmed) + int(self._connection.call("XDEL", self._keys.stream, last_id))

    def purge_letters(self, is_about: IsAbout) -> int:
        """Discard the dead letters about the person, and count them as purged; returns how many."""
        found, after = [], "0-0"
        while page := self._letters.page(_PAGE, after):
            found += [letter.id for letter in page if is_about(letter.payload)]
            after = page[-1].id
        purged = self._letters.purge(found)
        if purged:
            self._connection.run_script(_REWRITE, (self._keys.dead, f"{self._keys.dead}:rewritten"))
        return purged

    def rewrite_file(self) -> bool:
        """Have the append-only file, which holds every write since the last time, written anew.

        Returns:
            False where Redis does not allow it.
        """
        try:
            self._connection.call("XLEN", self._keys.dead)  # leads to the node that holds it, in a cluster
            self._connection.call("BGREWRITEAOF")
        except Refused:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        for each in (self._connection, self._inspector, self._letters):
            each.close()

    def _is_processed(self, last_id: str) -> bool:
        if last_id == "0-0":
            return True
        status = self._inspector.status()
        if not status.pending and not status.undelivered:
            return True
        return id_parts(self._inspector.first_unprocessed()) > id_parts(last_id)

    def _entries(self, last_id: str) -> Iterator[Entry]:
        for page in self._inspector.pages("0-0", last_id):
            yield from page
