"""What is known of the request that is being served, and how application code adds to it."""

import asyncio
import itertools
import random
import time
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.sdk.trace import Span, SpanProcessor

from otel_analytics.capture.own_spans import OwnSpan
from otel_analytics.record import MAX_TEXT_LENGTH, clean_text, known_method

_BUILTINS: Final = "builtins"
_random: Final = random.SystemRandom()
_ID_BITS: Final = 64
_ID_MASK: Final = 2**_ID_BITS - 1

FOREIGN_ERRORS: Final = (Exception, asyncio.CancelledError, SystemExit)
"""What code of the application's that is called on behalf of an event may raise and it is no reason to end
anything. Ctrl-C goes on."""


class EventIds:
    """Ids of 128 bits: 64 random ones for the process, and a counter that begins at a random number.

    Nothing of `random`, which an application may seed, and no system call a request.
    """

    def __init__(self) -> None:
        """Ids of this process; after a fork the child needs an object of its own."""
        self._prefix = f"{_random.getrandbits(_ID_BITS):016x}"
        self._counter = itertools.count(_random.getrandbits(_ID_BITS - 1))

    def next(self) -> str:
        """32 hexadecimal digits that no other request has."""
        return f"{self._prefix}{next(self._counter) & _ID_MASK:016x}"


class ObservedRequest:
    """One HTTP request as the ASGI layer, the tracing and the application see it; becomes one event.

    Attributes:
        scope: The ASGI scope, which routing fills in.
        event_id: Of the event it becomes, 32 hexadecimal digits.
        processor: The span processor that adds to it; another application's leaves it alone.
        method: A known one, or `_OTHER`, when the request came in.
        path: The path when the request came in, since middleware may change it.
        root_path: Likewise the root path.
        span: The SERVER span, from its start; None where tracing opened none.
        inner_span: A second, which FastAPI opens where a middleware around the application has opened one.
        span_user: The user that a span below the SERVER span names.
        tracing_failed: Whether an instrumentation failed to open one.
        problem: What went wrong in here on behalf of the request, to be counted.
        started_ns: Start of the request on the monotonic clock, nanoseconds.
        response_started_ns: Start of the response; 0 before.
        ended_ns: When the last body byte was handed to the server; 0 before.
        status_code: Of the response; 0 before it was started.
        request_bytes: Body bytes that came in.
        response_bytes: Body bytes that went out.
        db_query_count: Database queries so far.
        disconnected: Whether the client left before the response was complete.
        user_id: What `set_user` was told, cut but not cleaned; None before.
        cache_status: What `set_cache_status` was told, or what the response headers say.
        error_type: Qualified name of the exception that the application did not handle.
    """

    __slots__ = (
        "cache_status", "covered_spans", "db_query_count", "disconnected", "ended_ns", "error_type",
        "event_id", "inner_span", "method", "orm_flows", "path", "problem", "processor", "request_bytes",
        "response_bytes", "response_started_ns", "root_path", "scope", "span", "span_user", "started_ns",
        "status_code", "tracing_failed", "user_id",
    )  # fmt: skip

    def __init__(self, scope: Any, event_id: str, processor: SpanProcessor) -> None:
        """A request that begins now."""
        self.started_ns = time.perf_counter_ns()
        self.scope = scope
        self.event_id = event_id
        self.processor = processor
        self.method = known_method(scope["method"])
        self.path: str = scope["path"]
        self.root_path: str = scope.get("root_path", "")
        self.span: Span | OwnSpan | None = None
        self.inner_span: Span | None = None
        self.span_user: object = None
        self.tracing_failed = False
        self.problem: BaseException | None = None
        self.response_started_ns = 0
        self.ended_ns = 0
        self.status_code = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.db_query_count = 0
        self.disconnected = False
        self.user_id: str | None = None
        self.cache_status: str | None = None
        self.error_type: str | None = None
        # For the tracing: how many spans of an ORM are open in each flow of control, and which spans of a
        # driver belong to one of them.
        self.orm_flows: dict[int, int] | None = None
        self.covered_spans: set[int] | None = None


current_request: Final[ContextVar[ObservedRequest | None]] = ContextVar(
    "otel_analytics_request", default=None
)
"""The request that this code runs for, in its tasks and in the threads that Starlette starts for it."""


def set_user(user_id: object) -> None:
    """Say who sends the present request; outside of a request, nothing happens.

    Call it in a dependency, a middleware or the endpoint, sync or async. The last call counts.

    Args:
        user_id: Anything whose text names the user; stored as it is, or as its keyed HMAC where the setting
            `user_id_hmac` says so. None takes back what was said before.
    """
    request = current_request.get()
    if request is not None:
        request.user_id = None if user_id is None else _text_of(user_id, request)


def set_cache_status(status: str) -> None:
    """Say what the application's own cache did for the present request; outside of one, nothing happens.

    It outweighs what response headers say.

    Args:
        status: `hit`, `miss`, `bypass`, `stale` or another word of the same kind; kept in lower case.
    """
    request = current_request.get()
    if request is not None:
        text = _text_of(status, request) or ""
        request.cache_status = clean_text(text, MAX_TEXT_LENGTH).strip().lower() or None


def qualified_name(error: BaseException) -> str:
    """The exception's name with its module, but for built-in ones."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == _BUILTINS else f"{kind.__module__}.{kind.__qualname__}"
    return clean_text(name, MAX_TEXT_LENGTH)


def _text_of(value: object, request: ObservedRequest) -> str | None:
    try:
        return str(value)[:MAX_TEXT_LENGTH]
    except FOREIGN_ERRORS as error:
        request.problem = error
        return None
