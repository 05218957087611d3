"""From what is left of a request to its event. Pure."""

from typing import Final

from otel_analytics.capture.ended import Ended
from otel_analytics.privacy import Privacy
from otel_analytics.record import (
    MAX_TEXT_LENGTH,
    UNMATCHED_ROUTE,
    Event,
    clean_route,
    clean_text,
    known_method,
)

_SERVER_ERROR: Final = 500
_NANOSECONDS_PER_US: Final = 1_000
_US_PER_MS: Final = 1_000


def event_of(ended: Ended, privacy: Privacy) -> Event:
    """The event of a request that is over.

    Args:
        ended: What is left of it; its hash can then take in nothing more.
        privacy: What may be stored.
    """
    user, status = ended.user_id, ended.status_code
    route = clean_route(ended.route) if ended.route else UNMATCHED_ROUTE
    rules = privacy.params
    path, query = privacy.address(_sent_path(ended), ended.query.decode("latin-1"), user)
    shown, params, pattern = rules.address(rules.path(path, route), query)
    trace_id = span_id = None
    trace = ended.trace
    if trace is not None and trace.is_valid:  # else of a trace that leads nowhere, see `own_provider`
        trace_id, span_id = f"{trace.trace_id:032x}", f"{trace.span_id:016x}"
    # By position, in the order of the wire: so many names would cost as much as all of the above.
    return Event(
        ended.event_id,
        ended.started_ns // _NANOSECONDS_PER_US,
        route,
        shown,
        known_method(ended.method),
        status,
        _milliseconds(ended.duration_ns),
        None if ended.ttfb_ns is None else _milliseconds(ended.ttfb_ns),
        privacy.user(user),
        ended.error_type or (str(status) if status >= _SERVER_ERROR else None),
        params,
        pattern,
        ended.request_bytes,
        ended.response_bytes,
        ended.db_query_count,
        ended.cache_status,
        None if ended.body_hash is None else ended.body_hash.digest(),
        trace_id,
        span_id,
        *(_client(ended, privacy) if privacy.client_fields else ()),
    )


def _client(ended: Ended, privacy: Privacy) -> tuple[str | None, str | None, str | None, str | None]:
    """Address, user agent, referrer and session, where they are wanted and known."""
    address = agent = referrer = session = None
    wanted = privacy.client_fields
    for name, value in ended.headers:
        if name == b"user-agent" and "user_agent" in wanted:
            agent = _clean(value)
        elif name == b"referer" and "referrer" in wanted:
            shown = privacy.params.redact(*value.decode("latin-1").partition("?")[::2])
            referrer = clean_text(shown, MAX_TEXT_LENGTH)
        elif name == b"x-session-id" and "session_id" in wanted:
            session = _clean(value)
    if ended.session_id is not None:
        session = clean_text(str(ended.session_id), MAX_TEXT_LENGTH)
    peer = ended.client
    if peer and peer[0] is not None and "client_address" in wanted:
        address = clean_text(str(peer[0]), MAX_TEXT_LENGTH)
    return address, agent, referrer, session


def _clean(header: bytes) -> str:
    return clean_text(header.decode("latin-1"), MAX_TEXT_LENGTH)


def _sent_path(ended: Ended) -> str:
    sent = ended.path
    return sent if isinstance(sent, str) else sent.decode("latin-1").partition("?")[0]


def _milliseconds(nanoseconds: int) -> float:
    return max(0, nanoseconds) // _NANOSECONDS_PER_US / _US_PER_MS
