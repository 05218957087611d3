"""Real servers for the demo and for tests: started on a free loopback port, gone when the block ends.

A server program found on the machine comes first, then the one inside a pip package. Nobody is asked for a
password, so anybody who can log in to the machine can connect.
"""

from otel_analytics.embedded.postgres import postgres_server
from otel_analytics.embedded.redis import redis_server

__all__ = ["postgres_server", "redis_server"]
