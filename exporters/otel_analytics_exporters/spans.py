"""From a finished SERVER span to an event. Pure.

This is all there is to go by where `instrument()` did not observe the request: sizes and users are known only
as far as the span tells, and queries not at all.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from otel_analytics.privacy import Privacy
from otel_analytics.record import (
    MAX_INT64,
    MAX_TEXT_LENGTH,
    UNMATCHED_ROUTE,
    Event,
    clean_route,
    clean_text,
    known_method,
)

EVENT_ID_ATTRIBUTE: Final = "otel_analytics.event_id"
"""On a span whose request `instrument()` observes, and delivers itself."""

_METHOD: Final = ("http.request.method", "http.method")
_STATUS: Final = ("http.response.status_code", "http.status_code")
_USER: Final = ("user.id", "enduser.id")
_REQUEST_SIZE: Final = ("http.request.body.size", "http.request_content_length")
_RESPONSE_SIZE: Final = ("http.response.body.size", "http.response_content_length")
_CLIENT: Final = {
    "client_address": ("client.address", "http.client_ip", "net.peer.ip"),
    "user_agent": ("user_agent.original", "http.user_agent"),
    "session_id": ("session.id",),
}
_NO_STATUS: Final = 500
_FIRST_SERVER_ERROR: Final = 500
_STATUSES: Final = range(100, 600)


def event_from_span(span: ReadableSpan, privacy: Privacy) -> Event | None:
    """The event of a finished span, with the old or the new attribute names.

    Args:
        span: As an exporter gets it.
        privacy: What may be stored.

    Returns:
        None where the span is not the SERVER span of an HTTP request, or where `instrument()` observes the
        request.
    """
    attributes: Mapping[str, Any] = span.attributes or {}
    method = _first(attributes, _METHOD)
    if span.kind is not SpanKind.SERVER or method is None or EVENT_ID_ATTRIBUTE in attributes:
        return None
    if span.start_time is None or span.end_time is None:
        return None
    status = _first(attributes, _STATUS)
    status = status if isinstance(status, int) and status in _STATUSES else _NO_STATUS
    user = _first(attributes, _USER)
    path, query = privacy.address(*_target(attributes), user)
    given_route = attributes.get("http.route")
    route = clean_route(str(given_route)) if given_route else UNMATCHED_ROUTE

    shown, params, pattern = privacy.params.address(privacy.params.path(path, route), query)

    def client(field: str) -> str | None:
        return _text(_first(attributes, _CLIENT[field])) if field in privacy.client_fields else None

    return Event(
        event_id=_event_id(span),
        timestamp_us=span.start_time // 1_000,
        route=route,
        route_full=shown,
        method=known_method(str(method)),
        status_code=status,
        duration_ms=round(max(0, span.end_time - span.start_time) / 1e6, 3),
        user_id=privacy.user(user),
        error_type=_error_type(span, attributes, status),
        query_params=params,
        query_params_normalized=pattern,
        request_size_bytes=_size(attributes, _REQUEST_SIZE),
        response_size_bytes=_size(attributes, _RESPONSE_SIZE),
        trace_id=f"{span.context.trace_id:032x}" if span.context else None,
        span_id=f"{span.context.span_id:016x}" if span.context else None,
        client_address=client("client_address"),
        user_agent=client("user_agent"),
        session_id=client("session_id"),
    )


def _event_id(span: ReadableSpan) -> str:
    # Kept with the span, so that exporting it again gives the same event. Not its own id: those of the SDK
    # repeat across processes where the application seeds `random`.
    known = span.__dict__.get(EVENT_ID_ATTRIBUTE)
    if known is None:
        known = span.__dict__[EVENT_ID_ATTRIBUTE] = secrets.token_hex(16)
    return str(known)


def _first(attributes: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((attributes[name] for name in names if name in attributes), None)


def _target(attributes: Mapping[str, Any]) -> tuple[str, str]:
    path = attributes.get("url.path")
    if path is not None:
        return str(path), str(attributes.get("url.query", ""))
    target = attributes.get("http.target") or attributes.get("url.full") or attributes.get("http.url") or "/"
    try:
        parts = urlsplit(str(target))
    except ValueError:
        return "/", ""
    query = parts.query or ""
    if not query and "http.url" in attributes:  # some put the query only there
        query = str(attributes["http.url"]).partition("?")[2].partition("#")[0]
    return parts.path or "/", query


def _error_type(span: ReadableSpan, attributes: Mapping[str, Any], status: int) -> str | None:
    given = attributes.get("error.type")
    if given is None:
        exceptions = (event.attributes or {} for event in span.events if event.name == "exception")
        given = next((each["exception.type"] for each in exceptions if "exception.type" in each), None)
    if given is not None:
        return _text(given)
    return str(status) if status >= _FIRST_SERVER_ERROR else None


def _size(attributes: Mapping[str, Any], names: Iterable[str]) -> int | None:
    value = _first(attributes, names)
    if type(value) is int and 0 <= value <= MAX_INT64:
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= 15 else None  # noqa: PLR2004


def _text(value: Any) -> str | None:
    return None if value is None else clean_text(str(value), MAX_TEXT_LENGTH)
