"""Questions about the stream and its server that change nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_analytics.errors import UnsafeStream
from otel_analytics.stream.books import StreamLedger
from otel_analytics.stream.connection import Connection, Refused
from otel_analytics.stream.consumer import Entry
from otel_analytics.stream.keys import GROUP, Keys, id_parts

_PAGE: Final = 50
_SAVE_RESULTS: Final = ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
LAG_LIMIT: Final = 1_000
"""Entries counted at most where the server (before 7.0) does not know the lag itself."""


@dataclass(frozen=True)
class ServerInfo:
    """What the Redis server says of itself; None where it does not, as managed servers hide settings.

    Attributes:
        version: Such as `7.0.15`.
        eviction_policy: The setting `maxmemory-policy`.
        max_memory_bytes: 0 means no limit.
        used_memory_bytes: Memory in use.
        system_memory_bytes: Memory of its machine.
        append_only: Whether every write goes to the append-only file.
        snapshots: The setting `save`; empty where no snapshots are taken. Not asked for where the append-only
            file is there.
        saving_fails: Whether its last attempt to write to disk failed.
        is_replica: Whether it follows another server and accepts no writes.
    """

    version: str
    eviction_policy: str | None
    max_memory_bytes: int | None
    used_memory_bytes: int | None
    system_memory_bytes: int | None
    append_only: bool | None
    snapshots: str | None
    saving_fails: bool
    is_replica: bool

    @property
    def may_evict_stream(self) -> bool:
        """Whether it may delete the stream to make room.

        `noeviction` never does, and `volatile-*` evicts only keys with an expiry: ours have none.
        """
        return self.eviction_policy is not None and self.eviction_policy.startswith("allkeys-")


@dataclass(frozen=True)
class StreamStatus:
    """The stream at one moment.

    Attributes:
        length: Entries on the stream, those kept for reading included.
        pending: Entries delivered to a worker and not yet acknowledged.
        undelivered: Entries no worker has seen; `LAG_LIMIT` may mean more, before Redis 7.
        oldest_unprocessed_seconds: Age of the oldest entry that is pending or undelivered; 0 where there is
            none.
        dead_letters: Entries of the dead-letter stream.
        ledger: Redis's side of the ledger.
        has_group: Whether a worker has ever been here.
        clock_seconds: The time on the Redis server, seconds since 1970.
    """

    length: int
    pending: int
    undelivered: int
    oldest_unprocessed_seconds: float
    dead_letters: int
    ledger: StreamLedger
    has_group: bool
    clock_seconds: float


class _Group(NamedTuple):
    pending: int
    oldest_pending: str | None
    last_delivered: str
    lag: int | None


_NO_GROUP: Final = _Group(0, None, "0-0", None)


class Inspector:
    """Asks; never writes."""

    def __init__(self, url: str, *, key_prefix: str) -> None:
        """Prepare a connection; nothing is sent yet.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._connection = Connection(url)
        self._keys = Keys.of(key_prefix)

    def server_info(self) -> ServerInfo:
        """The server's version and the settings that decide whether accepted events are safe.

        Raises:
            StreamUnavailable: Redis did not answer.
        """
        self.ledger()  # leads to the node that holds it, in a cluster
        info = self._info()
        append_only = self._append_only(info)
        # CONFIG is a right that few have, so it is used only for what INFO does not say.
        policy = info.get("maxmemory_policy") or self._config("maxmemory-policy")
        return ServerInfo(
            version=str(info.get("redis_version", "unknown")),
            eviction_policy=None if policy is None else str(policy),
            max_memory_bytes=_int(info.get("maxmemory")),
            used_memory_bytes=_int(info.get("used_memory")),
            system_memory_bytes=_int(info.get("total_system_memory")),
            append_only=append_only,
            snapshots=None if append_only else self._config("save"),
            saving_fails=any(info.get(name, "ok") != "ok" for name in _SAVE_RESULTS),
            is_replica=info.get("role") == "slave",
        )

    def ensure_safe(self) -> None:
        """Refuse a server that may evict the stream to make room.

        Raises:
            UnsafeStream: The eviction policy is one of `allkeys-*`.
            StreamUnavailable: Redis did not answer.
        """
        server = self.server_info()
        if server.may_evict_stream:
            raise UnsafeStream(
                f"Redis has maxmemory-policy {server.eviction_policy} and may delete the whole stream to"
                " make room; set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
            )

    def clock(self) -> float:
        """The time on the Redis server, seconds since 1970."""
        seconds, microseconds = self._connection.call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def ledger(self) -> StreamLedger:
        """Redis's side of the ledger."""
        return StreamLedger.of(self._connection.call("HGETALL", self._keys.ledger))

    def status(self) -> StreamStatus:
        """The length of the stream, what waits on it and for how long."""
        length, dead, ledger = self._connection.together(
            ("XLEN", self._keys.stream),
            ("XLEN", self._keys.dead),
            ("HGETALL", self._keys.ledger),
            atomic=False,
        )
        found = self._group()
        group = found or _NO_GROUP
        next_id = self._first_after(group.last_delivered)
        waiting = [each for each in (group.oldest_pending, next_id) if each is not None]
        now = self.clock()
        oldest = min((id_parts(each)[0] / 1_000 for each in waiting), default=now)
        return StreamStatus(
            length=int(length),
            pending=group.pending,
            undelivered=self._undelivered(group),
            oldest_unprocessed_seconds=max(0.0, now - oldest),
            dead_letters=int(dead),
            ledger=StreamLedger.of(ledger),
            has_group=found is not None,
            clock_seconds=now,
        )

    def first_unprocessed(self) -> str:
        """An id before which every entry has been processed and acknowledged."""
        group = self._group() or _NO_GROUP
        ids = [group.last_delivered, *([group.oldest_pending] if group.oldest_pending else [])]
        return min(ids, key=id_parts)

    def ledger_and_last_id(self) -> tuple[StreamLedger, str]:
        """The ledger and the id of the newest entry, of one and the same moment; `0-0` on an empty stream."""
        read_ledger = ("HGETALL", self._keys.ledger)
        read_newest = ("XREVRANGE", self._keys.stream, "+", "-", "COUNT", 1)
        # Not in a transaction: a Redis that is full refuses even one that only reads. An entry is counted in
        # the same step as it is added.
        while True:
            before, newest, after = self._connection.together(
                read_ledger, read_newest, read_ledger, atomic=False
            )
            if before == after:
                return StreamLedger.of(after), newest[0][0].decode() if newest else "0-0"

    def pages(self, first_id: str, last_id: str) -> Iterator[list[Entry]]:
        """The entries from `first_id` to `last_id`, both included, a page at a time."""
        start = first_id
        while reply := self._connection.call("XRANGE", self._keys.stream, start, last_id, "COUNT", _PAGE):
            yield [Entry.of(entry_id.decode(), fields) for entry_id, fields in reply]
            start = f"({reply[-1][0].decode()}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _group(self) -> _Group | None:
        try:
            groups = self._connection.call("XINFO GROUPS", self._keys.stream)
        except Refused as error:
            if error.code != "no":  # no such key
                raise
            groups = []
        for group in groups:
            if group["name"] == GROUP.encode():
                summary = self._connection.call("XPENDING", self._keys.stream, GROUP)
                oldest = summary["min"].decode() if summary["min"] else None
                last = group["last-delivered-id"].decode()
                return _Group(int(summary["pending"]), oldest, last, group.get("lag"))
        return None

    def _first_after(self, entry_id: str) -> str | None:
        reply = self._connection.call("XRANGE", self._keys.stream, f"({entry_id}", "+", "COUNT", 1)
        return reply[0][0].decode() if reply else None

    def _undelivered(self, group: _Group) -> int:
        if group.lag is not None:
            return int(group.lag)
        count = 0
        start = f"({group.last_delivered}"
        while count < LAG_LIMIT:
            page = self._connection.call("XRANGE", self._keys.stream, start, "+", "COUNT", _PAGE)
            if not page:
                break
            count += len(page)
            start = f"({page[-1][0].decode()}"
        return count

    def _info(self) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._connection.call("INFO")
        except Refused as error:
            if error.code != "NOPERM":
                raise
            return {}
        return info

    def _append_only(self, info: Mapping[str, Any]) -> bool | None:
        if "aof_enabled" in info:
            return bool(info["aof_enabled"])
        setting = self._config("appendonly")
        return None if setting is None else setting == "yes"

    def _config(self, name: str) -> str | None:
        try:
            reply = self._connection.call("CONFIG GET", name)
        except Refused:  # forbidden by an ACL, or renamed away as managed servers do
            return None
        value = reply.get(name) if reply else None
        return None if value is None else str(value)


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
