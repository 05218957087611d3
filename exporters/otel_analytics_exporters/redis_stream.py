"""Events onto the Redis stream."""

from collections.abc import Mapping, Sequence

from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.stream.producer import Producer
from otel_analytics_exporters.span_exporter import EventSpanExporter


class RedisStreamSpanExporter(EventSpanExporter):
    """Writes the event of each HTTP request to the Redis stream, from where a worker stores it.

    Also to be had as `OTEL_TRACES_EXPORTER=otel_analytics_redis`; it then takes its settings from
    `OTEL_ANALYTICS_*`.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: Those of the environment where None.

        Raises:
            SettingsError: They cannot be used; the Redis URL, for example.
        """
        super().__init__(settings)
        # Made now, so that a URL that cannot be used is not left for the thread that sends to find.
        self._producer: Producer | None = self._make_producer()

    def send(self, events: Sequence[Event], dropped: Mapping[str, int]) -> Mapping[str, int]:
        """Add one entry with all the events; see `delivery.EventExporter`."""
        if self._producer is None:
            self._producer = self._make_producer()
        self._producer.add(events, dropped)
        return {}

    def disconnect(self) -> None:
        """Close the connection; the next `send` opens it anew."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def forget_connections(self) -> None:
        """Let go of the connection after a fork; see `EventSpanExporter`."""
        self._producer = None

    def _make_producer(self) -> Producer:
        settings = self.settings
        return Producer(
            settings.redis_url, key_prefix=settings.key_prefix, max_entries=settings.stream_max_entries
        )
