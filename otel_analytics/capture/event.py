"""From the request observed to the event."""

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request

from otel_analytics.capture.observed import ObservedRequest
from otel_analytics.capture.routes import template_of
from otel_analytics.capture.tracing import DatabaseInstrumentation
from otel_analytics.privacy import Privacy
from otel_analytics.record import (
    MAX_TEXT_LENGTH,
    UNMATCHED_ROUTE,
    Event,
    clean_route,
    clean_text,
    known_method,
)

UserOf = Callable[[Request], object]
"""Names the user of a request, or None; called on the request's thread when the response is complete."""

CLIENT_CLOSED_REQUEST: Final = 499
_SERVER_ERROR: Final = 500
_STATUSES: Final = range(100, 600)
_FASTAPI: Final = "fastapi"
_NANOSECONDS_PER_MS: Final = 1_000_000
_BUILTINS: Final = "builtins"


class EventBuilder:
    """Builds events as the settings say."""

    def __init__(
        self, privacy: Privacy, databases: DatabaseInstrumentation, user_of: UserOf | None = None
    ) -> None:
        """Prepare.

        Args:
            privacy: What may be stored.
            databases: Whether queries can be counted.
            user_of: Names the user where `set_user` did not.
        """
        self._privacy = privacy
        self._databases = databases
        self._user_of = user_of

    def build(self, request: ObservedRequest, response_hash: int | None) -> Event | None:
        """The event of a request that is over.

        Args:
            request: What was observed.
            response_hash: Of the body, or None.

        Returns:
            None where tracing opened no span, as for a path that is excluded from it.
        """
        span = request.span
        if span is None or span.start_time is None:
            return None
        scope = request.scope
        attributes = span.attributes or {}
        status = _status(request)
        query = scope.get("query_string", b"").decode("latin-1")
        rules = self._privacy.params
        params, pattern = rules.read(query)
        context = span.get_span_context()
        client = self._client(request, attributes) if self._privacy.client_fields else {}
        return Event(
            event_id=request.event_id,
            timestamp_us=span.start_time // 1_000,
            route=_route(request, attributes),
            route_full=rules.redact(_sent_path(request), query),
            method=known_method(scope["method"]),
            status_code=status,
            duration_ms=_milliseconds(request.ended_ns - request.started_ns),
            ttfb_ms=_milliseconds(request.response_started_ns - request.started_ns)
            if request.response_started_ns
            else None,
            user_id=self._user(request, attributes),
            error_type=request.error_type or (str(status) if status >= _SERVER_ERROR else None),
            query_params=params,
            query_params_normalized=pattern,
            request_size_bytes=request.request_bytes,
            response_size_bytes=request.response_bytes,
            db_query_count=request.db_query_count if self._databases.is_active() else None,
            cache_status=request.cache_status,
            response_hash=response_hash,
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
            **client,
        )

    def _user(self, request: ObservedRequest, attributes: Any) -> str | None:
        user: object = request.user_id
        if user is None and self._user_of is not None:
            user = self._user_of(Request(request.scope))
        if user is None:
            user = attributes.get("user.id")
        if user is None:
            user = attributes.get("enduser.id")
        if user is None:
            user = _authenticated(request.scope.get("user"))
        return self._privacy.user(user)

    def _client(self, request: ObservedRequest, attributes: Any) -> dict[str, Any]:
        headers = {name: value for name, value in request.scope.get("headers", ()) if name in _CLIENT_HEADERS}
        peer = request.scope.get("client")
        found = {
            "client_address": peer[0] if peer else None,
            "user_agent": _header(headers, b"user-agent"),
            "referrer": _header(headers, b"referer"),
            "session_id": attributes.get("session.id") or _header(headers, b"x-session-id"),
        }
        return {
            name: clean_text(str(value), MAX_TEXT_LENGTH)
            for name, value in found.items()
            if value is not None and name in self._privacy.client_fields
        }


_CLIENT_HEADERS: Final = frozenset({b"user-agent", b"referer", b"x-session-id"})


def qualified_name(error: BaseException) -> str:
    """The exception's name with its module, but for built-in ones."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == _BUILTINS else f"{kind.__module__}.{kind.__qualname__}"
    return clean_text(name, MAX_TEXT_LENGTH)


def _status(request: ObservedRequest) -> int:
    if request.disconnected:
        return CLIENT_CLOSED_REQUEST
    # Without a response, the server answers with 500.
    return request.status_code if request.status_code in _STATUSES else _SERVER_ERROR


def _route(request: ObservedRequest, attributes: Any) -> str:
    span = request.span
    scope = span.instrumentation_scope if span is not None else None
    named = attributes.get("http.route")
    if named and scope is not None and scope.name == _FASTAPI:
        return clean_route(str(named))
    route = template_of(request.scope) or named
    return clean_route(str(route)) if route else UNMATCHED_ROUTE


def _sent_path(request: ObservedRequest) -> str:
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1").partition("?")[0] if raw else request.path


def _milliseconds(nanoseconds: int) -> float:
    return round(max(0, nanoseconds) / _NANOSECONDS_PER_MS, 3)


def _authenticated(user: Any) -> object:
    """The name of Starlette's `request.user`, where there is one and it is signed in."""
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    try:
        identity: object = user.identity
    except (NotImplementedError, AttributeError):
        identity = None
    return identity or getattr(user, "display_name", None) or None


def _header(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
