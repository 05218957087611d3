"""The end of an installation on Redis."""

from otel_analytics.stream.connection import Connection
from otel_analytics.stream.keys import Keys


def remove_all(url: str, *, key_prefix: str) -> None:
    """Delete the stream, its dead letters and its ledger, whatever they hold.

    Args:
        url: Where Redis is.
        key_prefix: What the names of the keys begin with.

    Raises:
        StreamUnavailable: Redis does not answer, or refuses.
    """
    connection = Connection(url)
    connection.call("UNLINK", *Keys.of(key_prefix))
    connection.close()
