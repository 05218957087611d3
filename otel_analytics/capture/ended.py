"""What is left of a request that is over, so that its event can be made later."""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext
from starlette.requests import Request

from otel_analytics.capture.body_hash import BodyHash
from otel_analytics.capture.observed import FOREIGN_ERRORS, ObservedRequest
from otel_analytics.capture.routes import template_for, template_of
from otel_analytics.capture.tracing import USER_ATTRIBUTES, DatabaseInstrumentation

UserOf = Callable[[Request], object]
"""Names the user of a request, or None; called on the request's thread when the response is complete."""

CLIENT_CLOSED_REQUEST: Final = 499
CLIENT_HEADERS: Final = frozenset({b"user-agent", b"referer", b"x-session-id"})
_SERVER_ERROR: Final = 500
_STATUSES: Final = range(100, 600)


class Ended(NamedTuple):
    """All that an event is made of, as it was when the response was complete, and free of the application.

    Attributes:
        event_id: 32 hexadecimal digits.
        started_ns: Start of the span, nanoseconds since 1970.
        route: The template; None where no route matched.
        path: As sent: percent-encoded bytes, or text where the server gives no more.
        query: As sent.
        method: As sent.
        status_code: That of the event.
        duration_ns: To the last body byte.
        ttfb_ns: To the start of the response; None where there was none.
        user_id: Text, neither cleaned nor hidden.
        error_type: Qualified name of the exception.
        request_bytes: Body bytes that came in.
        response_bytes: Body bytes that went out.
        db_query_count: None where nothing could count them.
        cache_status: One word.
        body_hash: Of the response, or None.
        trace: Ids of the span, which may be none; None without a span.
        headers: `CLIENT_HEADERS` of the request; empty where no client field is wanted.
        client: Address and port of the peer; None where no client field is wanted.
        session_id: What the span says; None where it is not wanted.
    """

    event_id: str
    started_ns: int
    route: str | None
    path: bytes | str
    query: bytes
    method: str
    status_code: int
    duration_ns: int
    ttfb_ns: int | None
    user_id: str | None
    error_type: str | None
    request_bytes: int
    response_bytes: int
    db_query_count: int | None
    cache_status: str | None
    body_hash: BodyHash | None
    trace: SpanContext | None
    headers: Iterable[tuple[bytes, bytes]]
    client: tuple[Any, ...] | None
    session_id: object


class EndReader:
    """Reads what is left of a request, on its thread, as the application may change all of it afterwards."""

    def __init__(
        self,
        app: Any,
        client_fields: frozenset[str],
        databases: DatabaseInstrumentation,
        user_of: UserOf | None = None,
    ) -> None:
        """Prepare.

        Args:
            app: The application, for its routes.
            client_fields: Those that are stored; see `Privacy`.
            databases: Whether queries can be counted.
            user_of: Names the user where `set_user` did not.
        """
        self._app = app
        self._wants_client = bool(client_fields)
        self._wants_session = "session_id" in client_fields
        self._databases = databases
        self._user_of = user_of

    def read(self, request: ObservedRequest, body_hash: BodyHash | None) -> Ended | None:
        """What is left of a request that is over.

        Args:
            request: What was observed.
            body_hash: Of the response's body, or None.

        Returns:
            None where tracing opened no span, as for a path that is excluded from it.
        """
        span = request.span
        # An instrumentation may fail on the request, and with it the application.
        if span is None and not request.tracing_failed and request.error_type is None:
            return None
        scope = request.scope
        began, responded = request.started_ns, request.response_started_ns
        # By position: so many names would cost as much as all the rest.
        return Ended(
            request.event_id,
            _start_ns(request),
            self._route(request),
            scope.get("raw_path") or request.path,
            scope.get("query_string", b""),
            scope["method"],
            _status(request),
            request.ended_ns - began,
            responded - began if responded else None,
            self._user(request),
            request.error_type,
            request.request_bytes,
            request.response_bytes,
            request.db_query_count if self._databases.is_active() else None,
            request.cache_status,
            body_hash,
            None if span is None else span.get_span_context(),
            [each for each in scope.get("headers", ()) if each[0] in CLIENT_HEADERS]
            if self._wants_client
            else (),
            scope.get("client") if self._wants_client else None,
            _first_attribute(request, "session.id") if self._wants_session else None,
        )

    def _route(self, request: ObservedRequest) -> str | None:
        route = template_of(request.scope, self._app.routes)
        if route is None:
            # The nearest to the routing knows best; but FastAPI names a route for its redirects as well.
            scope = request.scope
            named = (each.get("http.route") for each in _attributes(request, innermost_first=True))
            name = next(filter(None, named), None) if "endpoint" in scope or "route" in scope else None
            route = None if name is None else str(name)
        if route is None and request.cache_status is not None:
            # A cache in a middleware answers before the routing. Looking through all routes is dear but rare.
            route = self._route_unasked(request)
        return route

    def _route_unasked(self, request: ObservedRequest) -> str | None:
        root_path = str(request.scope.get("root_path", "")).rstrip("/")
        route = template_for(request.path.removeprefix(root_path), request.scope["method"], self._app.routes)
        return None if route is None else root_path + route

    def _user(self, request: ObservedRequest) -> str | None:
        if request.user_id is not None:
            return request.user_id
        try:
            user = None if self._user_of is None else self._user_of(Request(request.scope))
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


def _status(request: ObservedRequest) -> int:
    if request.disconnected:
        return CLIENT_CLOSED_REQUEST
    # Without a response, the server answers with 500.
    return request.status_code if request.status_code in _STATUSES else _SERVER_ERROR


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


def _first_attribute(request: ObservedRequest, name: str) -> object:
    return next(filter(None, (each.get(name) for each in _attributes(request))), None)


def _on_spans(request: ObservedRequest) -> object:
    for name in USER_ATTRIBUTES:
        for attributes in _attributes(request):
            if name in attributes:
                return attributes[name]
    return request.span_user


def _authenticated(user: Any) -> object:
    """The name of Starlette's `request.user`, where there is one and it is signed in."""
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    try:
        identity: object = user.identity
    except (NotImplementedError, AttributeError):
        identity = None
    return identity or getattr(user, "display_name", None) or None
