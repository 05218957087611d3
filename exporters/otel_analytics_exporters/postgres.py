"""Events straight into PostgreSQL, for teams without Redis."""

import datetime as dt
import logging
import warnings
from collections.abc import Mapping, Sequence

from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store import ledger, partitions
from otel_analytics.store.connection import Connection, check_dsn, connect, transaction
from otel_analytics.store.events import insert_making_partitions
from otel_analytics_exporters.delivery import REJECTED
from otel_analytics_exporters.span_exporter import EventSpanExporter

_log = logging.getLogger(__name__)

_APPLICATION_NAME = "otel-analytics-exporter"


class PostgresSpanExporter(EventSpanExporter):
    """Writes the event of each HTTP request to the raw table, in batches.

    Also to be had as `OTEL_TRACES_EXPORTER=otel_analytics_postgres`; it then takes its settings from
    `OTEL_ANALYTICS_*`.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: Those of the environment where None.

        Raises:
            SettingsError: They cannot be used; the DSN, for example.
        """
        super().__init__(settings)
        check_dsn(self.settings.postgres_dsn)  # now, and not by the thread that sends
        self._connection: Connection | None = None

    def send(self, events: Sequence[Event], dropped: Mapping[str, int]) -> Mapping[str, int]:
        """Store the events; see `delivery.EventExporter`. What PostgreSQL refuses is logged and counted."""
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = connect(
                self.settings.postgres_dsn, application_name=_APPLICATION_NAME, unattended=True
            )
        now = dt.datetime.now(dt.UTC)
        first_day = partitions.oldest_day(now, self.settings.raw_retention_days)
        tomorrow = now.date() + dt.timedelta(days=1)
        with transaction(connection):
            ledger.make_durable(connection)
            inserted = insert_making_partitions(connection, events, first_day=first_day, last_day=tomorrow)
            if dropped:
                hour = now.replace(minute=0, second=0, microsecond=0)
                ledger.add_drops(connection, hour, dropped)
        if inserted.rejected:
            _log.warning(
                "otel-analytics: %d events can never be stored, the first because: %s",
                len(inserted.rejected),
                inserted.rejected[0].reason,
            )
            return {REJECTED: len(inserted.rejected)}
        return {}

    def disconnect(self) -> None:
        """Close the connection; the next `send` opens it anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def forget_connections(self) -> None:
        """Let go of the connection after a fork; see `EventSpanExporter`."""
        with warnings.catch_warnings():
            # The driver complains of a connection that was not closed, which is just what it may not be here.
            warnings.simplefilter("ignore", ResourceWarning)
            self._connection = None
