"""The ledger that Redis keeps, and what becomes of it when Redis forgets.

A server that was killed comes back without its last second, one that takes over without what it had not been
sent, one without persistence with nothing. So whoever adds to the stream or reads it says, each time, how far
it last heard the count of events had come. Where the server has changed since, the count is put right by
that, and what is missing shows in the audit.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from otel_analytics.stream.connection import Connection
from otel_analytics.stream.keys import Keys

_OF: Final = b"of:"

# KEYS: the stream, the ledger. ARGV: the epoch, the life and the count that were last heard; a name for a new
# epoch or life; how many events are added; the fields of their entry, or none.
#
# Out of memory, Redis refuses a script's first write. So the entry goes first; where there is none, a trim
# that takes nothing, and is never refused, lets whoever drains the stream put the ledger right all the same.
#
# A life is as long as one server answers, known by its run_id; where that may not be asked for, nothing
# changes. Of the life before, `reached` is how far the count is known to have come, so that each event that
# the server forgot is put back once, whoever tells of it first. Where the ledger alone is missing, somebody
# has deleted it.
_TELL: Final = """
if #ARGV > 5 then
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, 6))
else
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '9223372036854775807')
end
local length = redis.call('XLEN', KEYS[1])
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local found = redis.call(
  'HMGET', KEYS[2], 'epoch', 'run', 'life', 'before', 'reached', 'accepted', 'replayed')
local epoch, life, before = found[1], found[3] or '', found[4] or ''
local reached, count = tonumber(found[5] or 0), tonumber(found[6] or 0) + tonumber(found[7] or 0)
local heard = tonumber(ARGV[3])
if not epoch then
  epoch, life, before, reached = ARGV[4], ARGV[4], '', 0
  if ARGV[1] ~= '' and length > (#ARGV > 5 and 1 or 0) then epoch, before = ARGV[1], ARGV[2] end
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'run', run, 'life', life, 'before', before, 'reached', 0)
elseif run ~= '' and found[2] ~= run then
  life, before, reached = ARGV[4], life, count
  redis.call('HSET', KEYS[2], 'run', run, 'life', life, 'before', before, 'reached', reached)
end
if ARGV[1] ~= '' and ARGV[1] ~= epoch then
  if heard > tonumber(redis.call('HMGET', KEYS[2], 'of:' .. ARGV[1])[1] or 0) then
    redis.call('HSET', KEYS[2], 'of:' .. ARGV[1], heard)
  end
elseif ARGV[1] == epoch and ARGV[2] == before and heard > reached then
  redis.call('HINCRBY', KEYS[2], 'accepted', heard - reached)
  redis.call('HINCRBY', KEYS[2], 'forgotten', heard - reached)
  redis.call('HSET', KEYS[2], 'reached', heard)
  count = count + heard - reached
end
if ARGV[5] ~= '0' then redis.call('HINCRBY', KEYS[2], 'accepted', ARGV[5]) end
return {epoch, life, count + tonumber(ARGV[5]), length}
"""


class Heard(NamedTuple):
    """How far the count of events had come when somebody last heard of it.

    Attributes:
        epoch: Of the stream; empty where nothing was heard yet.
        life: Of the server.
        events: Ever put on the stream.
    """

    epoch: str = ""
    life: str = ""
    events: int = 0


class StreamLedger(NamedTuple):
    """What Redis knows of the ledger, counted in events since the epoch began.

    Attributes:
        epoch: Names one life of the stream; empty while nobody has written to it. It changes when Redis comes
            back empty, which is how a loss is noticed.
        accepted: Events that producers added, those included that Redis forgot and was told of.
        replayed: Dead events that were put back on the stream.
        purged: Dead events that were discarded for good.
        life: Names one life of the server within the epoch.
        before: The life before it.
        reached: How far the count is known to have come in the life before.
        forgotten: Events that Redis came back without, as far as somebody told of them.
        earlier: How far the count is known to have come in earlier epochs.
    """

    epoch: str
    accepted: int
    replayed: int
    purged: int
    life: str = ""
    before: str = ""
    reached: int = 0
    forgotten: int = 0
    earlier: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "StreamLedger":
        """The ledger from the reply to HGETALL."""

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode(errors="replace")

        def number(name: bytes) -> int:
            return int(fields.get(name, 0))

        return cls(
            epoch=text(b"epoch"),
            accepted=number(b"accepted"),
            replayed=number(b"replayed"),
            purged=number(b"purged"),
            life=text(b"life"),
            before=text(b"before"),
            reached=number(b"reached"),
            forgotten=number(b"forgotten"),
            earlier=tuple(
                (name.removeprefix(_OF).decode(errors="replace"), int(count))
                for name, count in sorted(fields.items())
                if name.startswith(_OF)
            ),
        )

    @property
    def heard(self) -> Heard:
        """What whoever reads it has heard."""
        return Heard(self.epoch, self.life, self.accepted + self.replayed)

    def lacks(self, heard: Heard) -> int:
        """How many events it has forgotten of those that somebody has heard of."""
        if heard.epoch != self.epoch:
            return 0
        known = {self.before: self.reached, self.life: self.heard.events}.get(heard.life)
        return 0 if known is None else max(0, heard.events - known)


class Told(NamedTuple):
    """The answer to `tell`: what is heard now, and how many entries are on the stream."""

    heard: Heard
    length: int


def tell(
    connection: Connection,
    keys: Keys,
    heard: Heard,
    *,
    events: int = 0,
    fields: Sequence[str | bytes | int] = (),
) -> Told:
    """Add an entry, if there is one, and put the ledger right by what was last heard of it, in one step.

    Args:
        connection: To Redis.
        keys: Of the installation.
        heard: What whoever calls last heard.
        events: How many the entry holds.
        fields: Of the entry; none where there is only something to tell.

    Raises:
        Refused: Redis does not accept writes; nothing was changed.
        StreamUnavailable: Redis did not answer.
    """
    epoch, life, count, length = connection.run_script(
        _TELL, (keys.stream, keys.ledger), *heard, secrets.token_hex(8), events, *fields
    )
    return Told(Heard(epoch.decode(), life.decode(), int(count)), int(length))
