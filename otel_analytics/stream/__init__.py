"""The only door to Redis: the stream of events, its dead letters and its side of the ledger."""

from otel_analytics.stream.books import Heard, StreamLedger
from otel_analytics.stream.consumer import Consumer, Delivery, Entry, Trimmed
from otel_analytics.stream.dead_letters import DeadLetter, DeadLetters, NewLetter
from otel_analytics.stream.inspector import Inspector, ServerInfo, StreamStatus
from otel_analytics.stream.keys import GROUP, Keys
from otel_analytics.stream.producer import Producer

__all__ = [
    "GROUP",
    "Consumer",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "Entry",
    "Heard",
    "Inspector",
    "Keys",
    "NewLetter",
    "Producer",
    "ServerInfo",
    "StreamLedger",
    "StreamStatus",
    "Trimmed",
]
