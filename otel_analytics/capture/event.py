"""From the request observed to the event."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from starlette.requests import Request

from otel_analytics.capture.observed import FOREIGN_ERRORS, ObservedRequest
from otel_analytics.capture.routes import template_for, template_of
from otel_analytics.capture.tracing import USER_ATTRIBUTES, DatabaseInstrumentation
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
_NANOSECONDS_PER_US: Final = 1_000
_US_PER_MS: Final = 1_000
_BUILTINS: Final = "builtins"


class EventBuilder:
    """Builds events as the settings say."""

    def __init__(
        self, app: Any, privacy: Privacy, databases: DatabaseInstrumentation, user_of: UserOf | None = None
    ) -> None:
        """Prepare.

        Args:
            app: The application, for its routes.
            privacy: What may be stored.
            databases: Whether queries can be counted.
            user_of: Names the user where `set_user` did not.
        """
        self._app = app
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
        # An instrumentation may fail on the request, and with it the application.
        if span is None and not request.tracing_failed and request.error_type is None:
            return None
        scope = request.scope
        status = _status(request)
        route = self._route(request)
        user = self._user(request)
        rules = self._privacy.params
        query = scope.get("query_string", b"").decode("latin-1")
        path, query = self._privacy.address(_sent_path(request), query, user)
        shown, params, pattern = rules.address(rules.path(path, route), query)
        trace_id = span_id = None
        context = None if span is None else span.get_span_context()
        if context is not None and context.is_valid:  # else of a trace that leads nowhere, see `own_provider`
            trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        began, responded = request.started_ns, request.response_started_ns
        # By position, in the order of the wire: so many names would cost as much as all of the above.
        return Event(
            request.event_id,
            _start_ns(request) // 1_000,
            route,
            shown,
            known_method(scope["method"]),
            status,
            _milliseconds(request.ended_ns - began),
            _milliseconds(responded - began) if responded else None,
            self._privacy.user(user),
            request.error_type or (str(status) if status >= _SERVER_ERROR else None),
            params,
            pattern,
            request.request_bytes,
            request.response_bytes,
            request.db_query_count if self._databases.is_active() else None,
            request.cache_status,
            response_hash,
            trace_id,
            span_id,
            *(self._client(request) if self._privacy.client_fields else ()),
        )

    def _route(self, request: ObservedRequest) -> str:
        route = template_of(request.scope, self._app.routes)
        if route is None:
            # The nearest to the routing knows best; but FastAPI names a route for its redirects as well.
            scope = request.scope
            named = (each.get("http.route") for each in _attributes(request, innermost_first=True))
            route = next(filter(None, named), None) if "endpoint" in scope or "route" in scope else None
        if route is None and request.cache_status is not None:
            # A cache in a middleware answers before the routing. Looking through all routes is dear but rare.
            route = self._route_unasked(request)
        return clean_route(str(route)) if route else UNMATCHED_ROUTE

    def _route_unasked(self, request: ObservedRequest) -> str | None:
        root_path = str(request.scope.get("root_path", "")).rstrip("/")
        route = template_for(request.path.removeprefix(root_path), request.scope["method"], self._app.routes)
        return None if route is None else root_path + route

    def _user(self, request: ObservedRequest) -> str | None:
        try:
            user: object = request.user_id
            if user is None and self._user_of is not None:
                user = self._user_of(Request(request.scope))
                if inspect.iscoroutine(user):  # which `instrument` cannot see of every callable
                    user.close()
                    raise TypeError("user_of is async and must be a plain function")
            if user is None:
                user = _on_spans(request)
            if user is None:
                user = _authenticated(request.scope.get("user"))
            return None if user is None else str(user)
        except FOREIGN_ERRORS as error:  # the rest of the event is still right
            request.problem = error
            return None

    def _client(self, request: ObservedRequest) -> tuple[str | None, str | None, str | None, str | None]:
        """Address, user agent, referrer and session, where they are wanted and known."""
        address = agent = referrer = session = None
        wanted = self._privacy.client_fields
        for name, value in request.scope.get("headers", ()):
            if name == b"user-agent" and "user_agent" in wanted:
                agent = _clean(value)
            elif name == b"referer" and "referrer" in wanted:
                shown = self._privacy.params.redact(*value.decode("latin-1").partition("?")[::2])
                referrer = clean_text(shown, MAX_TEXT_LENGTH)
            elif name == b"x-session-id" and "session_id" in wanted:
                session = _clean(value)
        if "session_id" in wanted:
            named = next(filter(None, (each.get("session.id") for each in _attributes(request))), None)
            session = session if named is None else clean_text(str(named), MAX_TEXT_LENGTH)
        peer = request.scope.get("client")
        if peer and peer[0] is not None and "client_address" in wanted:
            address = clean_text(str(peer[0]), MAX_TEXT_LENGTH)
        return address, agent, referrer, session


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


def _clean(header: bytes) -> str:
    return clean_text(header.decode("latin-1"), MAX_TEXT_LENGTH)


def _start_ns(request: ObservedRequest) -> int:
    span = request.span
    if span is not None and span.start_time is not None:
        return span.start_time
    return time.time_ns() - (time.perf_counter_ns() - request.started_ns)


def _attributes(request: ObservedRequest, *, innermost_first: bool = False) -> Iterator[Mapping[str, Any]]:
    spans = (request.span, request.inner_span)
    for span in reversed(spans) if innermost_first else spans:
        if span is not None and span.attributes:
            yield span.attributes


def _on_spans(request: ObservedRequest) -> object:
    for name in USER_ATTRIBUTES:
        for attributes in _attributes(request):
            if name in attributes:
                return attributes[name]
    return request.span_user


def _sent_path(request: ObservedRequest) -> str:
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1").partition("?")[0] if raw else request.path


def _milliseconds(nanoseconds: int) -> float:
    return max(0, nanoseconds) // _NANOSECONDS_PER_US / _US_PER_MS


def _authenticated(user: Any) -> object:
    """The name of Starlette's `request.user`, where there is one and it is signed in."""
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    try:
        identity: object = user.identity
    except (NotImplementedError, AttributeError):
        identity = None
    return identity or getattr(user, "display_name", None) or None
