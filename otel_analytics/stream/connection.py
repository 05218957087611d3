"""One connection to Redis, and the one place where its errors become ours."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool, parse_url
from redis.retry import Retry

from otel_analytics.errors import SettingsError, StreamUnavailable
from otel_analytics.settings import without_password

CONNECT_TIMEOUT_SECONDS: Final = 1.0
REPLY_TIMEOUT_SECONDS: Final = 2.0

# redis-py introduces itself on every connection, with a command that an access list would have to allow, and
# cannot name for Redis 7.0, which does not know it. How to keep it from that depends on its version.
_ANONYMOUS: Final[dict[str, None]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection).parameters
    else {"lib_name": None, "lib_version": None}
)

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of a URL that name files."""

# Where in a script Redis refused a command: in front of its words before Redis 7, behind them since.
_PLACE: Final = re.compile(r".*@user_script: ?\d+: -?(?=\S)| script: [0-9a-f]+, on @user_script:\d+\.?$")

_CODES: Final[Mapping[type[Exception], str]] = {
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
}
"""The words that redis-py takes off an answer; it leaves others."""
_SCATTERED: Final = (
    redis.exceptions.ClusterCrossSlotError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)
_ELSEWHERE: Final = ("READONLY", "CLUSTERDOWN")
"""Of a primary that no longer is one, or is cut off: the next connection may lead to its successor."""

Command = Sequence[str | bytes | int]
_Reply = TypeVar("_Reply")


class Refused(StreamUnavailable):
    """Redis answered with an error instead of a result.

    Attributes:
        code: The first word of the answer, such as `NOGROUP`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """A Redis server reached without retries: whoever calls decides what is safe to repeat.

    The server may be any node of a cluster, as long as all keys are in one slot. A node that does not hold
    them has done nothing and names the one that does, which is asked from then on, until it fails.
    """

    def __init__(self, url: str, *, reply_timeout_seconds: float = REPLY_TIMEOUT_SECONDS) -> None:
        """Prepare the connection; nothing is sent yet.

        Args:
            url: `redis://`, `rediss://` or `unix://`. Timeouts named in it win over the defaults here.
            reply_timeout_seconds: How long an answer may take.

        Raises:
            SettingsError: The URL cannot be used.
        """
        self._shown_url = without_password(url)
        try:
            options = parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError:
            # The cause may quote a password that was not percent-encoded, so it is not repeated.
            raise SettingsError(
                "setting redis_url: not a Redis URL; it looks like redis://user:password@host:6379/0,"
                " with special characters percent-encoded"
            ) from None
        defaults = {
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_timeout": reply_timeout_seconds,
        }
        # A retry inside the driver would add an entry twice. RESP2 gives replies one shape in every version
        # of redis-py, and no handshake for notifications that nobody here listens to.
        ours = {
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "protocol": 2,
            "decode_responses": False,
            **_ANONYMOUS,
        }
        self._options = {**defaults, **options, **ours}
        pool = ConnectionPool(**self._options)
        _check_options(pool, options)
        self._given: Any = redis.Redis(connection_pool=pool)  # Any, as its methods have no useful types
        self._client: Any = self._given

    def call(self, *command: str | bytes | int, **shape: bool) -> Any:
        """Send one command and return its reply.

        Args:
            command: Its name and arguments.
            shape: What redis-py wants to know to read the reply of some commands.

        Raises:
            Refused: Redis answered with an error.
            StreamUnavailable: Redis did not answer.
        """
        return self._send(lambda client: client.execute_command(*command, **shape))

    def together(self, *commands: Command, atomic: bool = True) -> list[Any]:
        """Send the commands in one round trip, as a transaction if `atomic`, and return their replies.

        Raises:
            Refused: Redis answered one of them with an error.
            StreamUnavailable: Redis did not answer.
        """

        def send(client: Any) -> list[Any]:
            with client.pipeline(transaction=atomic) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = pipeline.execute()
                return replies

        return self._send(send)

    def run_script(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Run Lua on the server, where it is atomic. Raises like `call`."""
        return self.call("EVAL", script, len(keys), *keys, *arguments)

    def close(self) -> None:
        """Close the sockets; whatever is sent afterwards opens new ones."""
        self._go_back()
        self._given.connection_pool.disconnect()

    def _send(self, send: Callable[[Any], _Reply]) -> _Reply:
        with self._translated():
            try:
                return send(self._client)
            except redis.exceptions.MovedError as moved:
                if "host" not in self._options:  # a socket of this machine
                    raise
                self._go_to(moved.host or self._options["host"], moved.port)
                return send(self._client)

    def _go_to(self, host: str, port: int) -> None:
        self._go_back()
        node = {**self._options, "host": host, "port": port}
        self._client = redis.Redis(connection_pool=ConnectionPool(**node))

    def _go_back(self) -> None:
        if self._client is not self._given:
            self._client.connection_pool.disconnect()
            self._client = self._given

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _SCATTERED as error:
            raise Refused(
                f"Redis at {self._shown_url} is a cluster, and the keys are not together on one node of it;"
                " unless they are being moved, set key_prefix to a name in braces, such as {route_analytics}",
                "CROSSSLOT",
            ) from error
        except redis.ResponseError as error:
            reason = _reason(error)
            code = _CODES.get(type(error)) or reason.partition(" ")[0]
            if code in _ELSEWHERE:
                self.close()
            raise Refused(f"Redis at {self._shown_url} refused: {reason}", code) from error
        except (redis.RedisError, OSError) as error:
            self._go_back()
            raise StreamUnavailable(f"Redis at {self._shown_url}: {_reason(error)}") from error


def _check_options(pool: ConnectionPool, options: Mapping[str, Any]) -> None:
    """Find now what redis-py would find when it connects, which is in a thread of the application's."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except (redis.RedisError, TypeError, ValueError):
        # What is taken for an option may be a part of the password, so it is not repeated.
        raise SettingsError(
            "setting redis_url: what follows the ? holds an option that redis-py does not know, or a value"
            " that it cannot use; the options of TLS are in docs/security.md"
        ) from None
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise SettingsError(f"setting redis_url: its option {name} names a file that is not there")


def _reason(error: Exception) -> str:
    # redis-py puts the failed command of a pipeline, and with it the events, in front of the server's words.
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    return _PLACE.sub("", " ".join(text.split())).rstrip(".") or type(error).__name__
