"""The worker's side of the stream."""

import logging
import os
import secrets
import socket
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from otel_analytics.errors import StreamUnavailable
from otel_analytics.stream.books import Heard, StreamLedger, tell
from otel_analytics.stream.connection import REPLY_TIMEOUT_SECONDS, Connection, Refused
from otel_analytics.stream.dead_letters import NewLetter
from otel_analytics.stream.keys import GROUP, Keys, id_parts

_log = logging.getLogger(__name__)

MAX_BLOCK_SECONDS: Final = 5.0
_PENDING_PAGE: Final = 1_000
_REMOVE_PAGE: Final = 50
_MEMORY_SHARE: Final = 0.75
"""Of what Redis may use: beyond it entries that are merely kept for reading go. The alert is at 0.8."""
_FIRST_ID: Final = "0-0"

# Whoever sees the entry still pending writes its letters and acknowledges it, in one step: two workers that
# both hold the entry write its letters once, and a crash at any point leaves either both done or the entry to
# be delivered again. The letters go first because Redis refuses a script's first write when it is out of
# memory.
_SETTLE: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
local at = 3
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
# Out of memory, Redis refuses to make a group, and without one nothing is ever taken off. It refuses only a
# script's first write, though, and a trim not at all, even one that takes nothing.
_CREATE_GROUP: Final = """
redis.call('XTRIM', KEYS[1], 'MAXLEN', '9223372036854775807')
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
return 1
"""
# XGROUP DELCONSUMER forgets the consumer's pending entries, so it must not have any.
_REMOVE_CONSUMER: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class Entry(NamedTuple):
    """One entry of the stream.

    Attributes:
        id: Its id there.
        fields: Its fields as they are.
        key: What it is recognised by when it is delivered again. Not the id alone: a Redis that lost its last
            second, or whose clock went back, may give it to another entry.
    """

    id: str
    fields: dict[bytes, bytes]
    key: str

    @classmethod
    def of(cls, entry_id: str, fields: dict[bytes, bytes]) -> "Entry":
        """The entry with this id and these fields."""
        content = b"\0".join(part for field in fields.items() for part in field)
        return cls(entry_id, fields, f"{entry_id}/{zlib.crc32(content):08x}")


class Delivery(NamedTuple):
    """What one read brought.

    Attributes:
        entries: Entries to be stored and acknowledged; empty when there is nothing to do.
        ledger: Redis's side of the ledger, read on the same connection right behind the entries, so that its
            epoch is the one the entries belong to.
        regrouped: The consumer group was missing and had to be made: a new stream, or one that was lost.
    """

    entries: list[Entry]
    ledger: StreamLedger
    regrouped: bool


class Trimmed(NamedTuple):
    """What a trim did: how many entries went, and the smallest id that may still be on the stream."""

    removed: int
    first_id: str


class Consumer:
    """One worker in the consumer group.

    What it read stays pending, and is delivered to somebody again, until `ack` or `settle`.
    """

    def __init__(self, url: str, *, key_prefix: str, claim_idle_seconds: float) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            url: Where Redis is.
            key_prefix: What the names of the keys begin with.
            claim_idle_seconds: How long an entry rests unacknowledged before it is taken from its consumer.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._connection = Connection(url, reply_timeout_seconds=MAX_BLOCK_SECONDS + REPLY_TIMEOUT_SECONDS)
        self._keys = Keys.of(key_prefix)
        self._claim_idle_ms = max(1, round(claim_idle_seconds * 1_000))
        self._claim_cursor = _FIRST_ID
        self._heard = Heard()
        self._host = socket.gethostname()
        self.name: Final = f"{self._host}-{os.getpid()}-{secrets.token_hex(4)}"

    def read(self, count: int, block_seconds: float = 0.0) -> Delivery:
        """Entries whose consumer is gone, else new ones.

        Args:
            count: Entries to return at most.
            block_seconds: How long to wait for a new entry, `MAX_BLOCK_SECONDS` at most; 0 does not wait.

        Raises:
            StreamUnavailable: Redis did not answer, or refused.
        """
        try:
            return self._read(count, block_seconds, regrouped=False)
        except Refused as error:
            if error.code not in ("NOGROUP", "UNBLOCKED"):
                raise
        self._create_group()
        return self._read(count, 0.0, regrouped=True)

    def tell(self, heard: Heard) -> StreamLedger:
        """Put the ledger right by what was heard of it before; returns it as it is then.

        Raises:
            Refused: Redis does not accept writes.
            StreamUnavailable: Redis did not answer.
        """
        tell(self._connection, self._keys, heard)
        return StreamLedger.of(self._connection.call("HGETALL", self._keys.ledger))

    def ack(self, entry_ids: Sequence[str]) -> int:
        """Acknowledge entries that are stored; returns how many of them were still pending."""
        if not entry_ids:
            return 0
        return int(self._connection.call("XACK", self._keys.stream, GROUP, *entry_ids))

    def settle(self, entry_id: str, letters: Iterable[NewLetter]) -> bool:
        """Write the dead letters of an entry and acknowledge it, both or neither.

        Returns:
            Whether this call did it; False where the entry had been acknowledged already.
        """
        arguments: list[str | bytes | int] = []
        for letter in letters:
            fields = letter.fields()
            arguments += [2 * len(fields)]
            for name, value in fields.items():
                arguments += [name, value]
        keys = (self._keys.stream, self._keys.dead)
        return bool(self._connection.run_script(_SETTLE, keys, GROUP, entry_id, *arguments))

    def adopt_orphans(self) -> int:
        """Make entries of killed workers of this host available at once, and forget those workers.

        Otherwise they would wait for `claim_idle_seconds`. Returns the number of entries.
        """
        adopted = 0
        for consumer in self._consumers():
            name = consumer["name"].decode(errors="replace")
            if not self._is_orphan(name):
                continue
            while pending := self._pending_ids("-", "+", name):
                # IDLE makes the next claim, ours or another worker's, find them due.
                self._connection.call(
                    "XCLAIM", self._keys.stream, GROUP, self.name, 0, *pending,
                    "IDLE", self._claim_idle_ms + 1, "JUSTID",
                    parse_justid=True,
                )  # fmt: skip
                adopted += len(pending)
            self._remove(name)
        return adopted

    def trim(self, retention_seconds: float, max_entries: int) -> Trimmed:
        """Remove old entries that are stored and acknowledged; never one that is pending or undelivered.

        Args:
            retention_seconds: How long stored entries stay readable, by the clock of Redis.
            max_entries: The producers' high-water mark. Entries that are merely kept for reading may fill
                half of it, and Redis three quarters of its memory; beyond that they go sooner, so that they
                do not stop the producers.
        """
        try:
            boundary, last_delivered = self._processed_boundary()
        except Refused as error:
            if error.code not in ("NOGROUP", "no"):
                raise
            return Trimmed(0, _FIRST_ID)
        seconds, microseconds = self._connection.call("TIME")
        now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
        removed = 0
        keep_ms = int(retention_seconds * 1_000)
        while True:
            # Ids may be ahead of the clock, if it went back or somebody set them.
            first_id = min(boundary, f"{max(0, now_ms - keep_ms)}-0", key=id_parts) if keep_ms else boundary
            command = ("XTRIM", self._keys.stream, "MINID", "=", first_id)
            trimmed, length = self._connection.together(command, ("XLEN", self._keys.stream), atomic=False)
            removed += int(trimmed)
            if first_id == boundary:
                return Trimmed(removed + self._remove_between(boundary, last_delivered), first_id)
            if int(length) <= max_entries // 2 and not self._memory_is_short():
                return Trimmed(removed, first_id)
            keep_ms //= 2

    def close(self) -> None:
        """Leave the group, unless entries are pending, and close the connection."""
        with suppress(StreamUnavailable):
            self._remove(self.name)
        self._connection.close()

    def _read(self, count: int, block_seconds: float, *, regrouped: bool) -> Delivery:
        entries = self._claim(count)
        read_ledger = ("HGETALL", self._keys.ledger)
        if entries:
            ledger = self._connection.call(*read_ledger)
        else:
            command: list[str | int] = ["XREADGROUP", "GROUP", GROUP, self.name, "COUNT", count]
            if block_seconds > 0:
                command += ["BLOCK", max(1, round(min(block_seconds, MAX_BLOCK_SECONDS) * 1_000))]
            command += ["STREAMS", self._keys.stream, ">"]
            # The same connection: had Redis come back empty in between, the pair would fail instead of
            # mixing.
            reply, ledger = self._connection.together(command, read_ledger, atomic=False)
            entries = _entries(reply[0][1]) if reply else []
        found = StreamLedger.of(ledger)
        if not found.epoch:
            found = self.tell(self._heard)
        self._heard = found.heard
        return Delivery(entries, found, regrouped)

    def _claim(self, count: int) -> list[Entry]:
        claimed: list[Entry] = []
        while True:
            reply = self._connection.call(
                "XAUTOCLAIM", self._keys.stream, GROUP, self.name, self._claim_idle_ms, self._claim_cursor,
                "COUNT", max(1, count - len(claimed)),
            )  # fmt: skip
            self._claim_cursor = reply[0].decode()
            entries = [entry for entry in _entries(reply[1]) if entry.fields]
            if len(entries) < len(reply[1]):
                self._forget_deleted()
            claimed += entries
            if self._claim_cursor == _FIRST_ID or len(claimed) >= count:
                return claimed

    def _forget_deleted(self) -> None:
        """Acknowledge entries that somebody deleted while they were pending; Redis 7 does this on its own."""
        for entry_id in self._pending_ids("-", "+", self.name):
            if not self._connection.call("XRANGE", self._keys.stream, entry_id, entry_id):
                self.ack([entry_id])
                _log.warning("entry %s was deleted from the stream before it was stored", entry_id)

    def _create_group(self) -> None:
        try:
            self._connection.run_script(_CREATE_GROUP, (self._keys.stream,), GROUP)
        except Refused as error:
            if error.code != "BUSYGROUP":
                raise

    def _remove_between(self, first_id: str, last_id: str) -> int:
        """Remove entries that are acknowledged until there is memory.

        An entry whose dead letters a full Redis refuses stays pending, and would keep all behind it.
        """
        removed = 0
        start = first_id
        while self._memory_is_short():
            page = self._connection.call(
                "XRANGE", self._keys.stream, start, f"({last_id}", "COUNT", _REMOVE_PAGE
            )
            if not page:
                break
            ids = [entry_id.decode() for entry_id, _ in page]
            pending = set(self._pending_ids(ids[0], ids[-1]))
            done = [entry_id for entry_id in ids if entry_id not in pending]
            if done:
                removed += int(self._connection.call("XDEL", self._keys.stream, *done))
            start = f"({ids[-1]}"
        return removed

    def _processed_boundary(self) -> tuple[str, str]:
        """The smallest id that is not known to be processed, and the last delivered one.

        The two are the same where everything is processed.
        """
        # No transaction: a Redis that is full refuses even one that only reads. What is delivered after the
        # first answer is beyond it.
        groups, pending = self._connection.together(
            ("XINFO GROUPS", self._keys.stream), ("XPENDING", self._keys.stream, GROUP), atomic=False
        )
        last: list[bytes] = [
            group["last-delivered-id"] for group in groups if group["name"] == GROUP.encode()
        ]
        if not last:  # made just now
            return _FIRST_ID, _FIRST_ID
        ids = [*last, pending["min"]] if pending["pending"] else last
        return min((each.decode() for each in ids), key=id_parts), last[0].decode()

    def _memory_is_short(self) -> bool:
        try:
            info = self._connection.call("INFO", "memory")
        except Refused:  # forbidden by an ACL
            return False
        limit = int(info.get("maxmemory", 0))
        return limit > 0 and int(info["used_memory"]) > _MEMORY_SHARE * limit

    def _consumers(self) -> list[dict[str, Any]]:
        try:
            consumers: list[dict[str, Any]] = self._connection.call(
                "XINFO CONSUMERS", self._keys.stream, GROUP
            )
        except Refused as error:
            if error.code not in ("NOGROUP", "no"):
                raise
            return []
        return consumers

    def _pending_ids(self, first_id: str, last_id: str, *of_consumer: str) -> list[str]:
        reply = self._connection.call(
            "XPENDING", self._keys.stream, GROUP, first_id, last_id, _PENDING_PAGE, *of_consumer,
            parse_detail=True,
        )  # fmt: skip
        return [each["message_id"].decode() for each in reply]

    def _is_orphan(self, consumer: str) -> bool:
        host, _, rest = consumer.rpartition("-")[0].rpartition("-")
        return host == self._host and rest.isdigit() and not _is_running(int(rest))

    def _remove(self, consumer: str) -> None:
        try:
            self._connection.run_script(_REMOVE_CONSUMER, (self._keys.stream,), GROUP, consumer)
        except Refused as error:
            if "NOGROUP" not in str(error):
                raise


def _entries(reply: Iterable[tuple[bytes | None, dict[bytes, bytes] | None]]) -> list[Entry]:
    return [Entry.of(entry_id.decode() if entry_id else "", fields or {}) for entry_id, fields in reply]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
