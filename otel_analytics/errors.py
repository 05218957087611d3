"""Every error this package raises on purpose.

The first line of each docstring says what went wrong; the message given when it is raised says what to do.
"""


class OtelAnalyticsError(Exception):
    """Something failed; the message is one line and says what to do."""


class SettingsError(OtelAnalyticsError):
    """A setting is unknown, malformed or out of range."""


class UsageError(OtelAnalyticsError):
    """A command or function was called with arguments that cannot be right."""


class InvalidEvent(OtelAnalyticsError):  # noqa: N818 - a judgement on data, not a failure of the program
    """An event can never be stored: it cannot be parsed, or a value is out of range."""


class StreamUnavailable(OtelAnalyticsError):  # noqa: N818
    """Redis cannot be reached or does not accept writes; trying again later may succeed."""


class StreamFull(StreamUnavailable):
    """The stream is at its high-water mark, so nothing is added until the worker has drained it."""


class UnsafeStream(OtelAnalyticsError):  # noqa: N818
    """Redis is configured so that accepted events could vanish."""


class StoreUnavailable(OtelAnalyticsError):  # noqa: N818
    """PostgreSQL cannot be reached or does not accept writes; trying again later may succeed."""


class RejectedRows(OtelAnalyticsError):  # noqa: N818
    """PostgreSQL refused the content of a batch; at least one event in it can never be stored."""


class NotMigrated(OtelAnalyticsError):  # noqa: N818
    """The database lacks the tables of this version."""


class SchemaTooNew(OtelAnalyticsError):  # noqa: N818
    """The database was migrated by a newer version of this package."""


class PoisonedStream(OtelAnalyticsError):  # noqa: N818
    """A long run of entries held nothing that can be stored, so the worker stopped."""
