"""Our part in OpenTelemetry's tracing: find the request's SERVER span, and count its database queries."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextvars import Token
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_analytics.capture.observed import ObservedRequest, current_request
from otel_analytics_exporters.spans import EVENT_ID_ATTRIBUTE

_log = logging.getLogger(__name__)

_ORMS: Final = frozenset(
    {"opentelemetry.instrumentation.sqlalchemy", "opentelemetry.instrumentation.tortoiseorm"}
)
USER_ATTRIBUTES: Final = ("user.id", "enduser.id")
_ENDS_OF_INTEREST: Final = (SpanKind.CLIENT, SpanKind.INTERNAL)
_DB_SYSTEM: Final = ("db.system.name", "db.system")
_DB_TEXT: Final = ("db.operation.name", "db.query.text", "db.operation", "db.statement")
_NOT_QUERIES: Final = frozenset(
    {
        "abort", "begin", "close", "commit", "connect", "discard", "end", "release", "reset", "rollback",
        "savepoint", "start", "unlisten",
    }
)  # fmt: skip
"""First words of spans that open or tidy up a connection, or steer a transaction."""
_POOL_RESET: Final = "select pg_advisory_unlock_all()"
"""What asyncpg's pool says, with more of the kind, to each connection that is given back."""
_INSTRUMENTATIONS: Final = (
    "aiopg", "asyncpg", "cassandra", "mysql", "mysqlclient", "psycopg", "psycopg2", "pymongo", "pymssql",
    "pymysql", "redis", "sqlalchemy", "sqlite3", "tortoiseorm",
)  # fmt: skip
_LOOK_AGAIN_SECONDS: Final = 1.0


class RecordingSampler(Sampler):
    """Turns "drop" into "record only" for what an event is made of, so that sampling does not bias it.

    What a span exporter gets stays as the wrapped sampler decides, since a span that is recorded only is not
    sampled. Recorded are SERVER spans, and the CLIENT spans under a request: some are database queries.
    """

    def __init__(self, wrapped: Sampler) -> None:
        """Ask `wrapped` first."""
        self.wrapped: Final = wrapped

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The wrapped sampler's answer, with "drop" turned into "record only" where a request is observed."""
        result = self.wrapped.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        if result.decision is Decision.DROP and (
            kind is SpanKind.SERVER or (kind is SpanKind.CLIENT and current_request.get() is not None)
        ):
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """The wrapped sampler's description, marked."""
        return f"RecordingSampler({self.wrapped.get_description()})"


class RequestSpanProcessor(SpanProcessor):
    """Ties the SERVER span to the request observed, and counts database queries. It never raises."""

    def __init__(self, databases: "DatabaseInstrumentation") -> None:
        """Tell `databases` of each query seen."""
        self._databases = databases

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Take the first SERVER span of a request as its own; note where a CLIENT span stands."""
        request = current_request.get()
        if request is None or request.processor is not self:
            return
        kind = span.kind
        if kind is SpanKind.SERVER:
            if request.span is None:
                request.span = span
            elif request.inner_span is None:
                request.inner_span = span
            if span.get_span_context().trace_flags.sampled:
                # So that an exporter of ours that gets the span as well leaves it alone.
                span.set_attribute(EVENT_ID_ATTRIBUTE, request.event_id)
        elif kind is SpanKind.CLIENT and span.context is not None:
            _place(request, span)

    def on_end(self, span: ReadableSpan) -> None:
        """Count a CLIENT span that was a query of its own; note the user that an INTERNAL span names."""
        if span.kind not in _ENDS_OF_INTEREST:
            return
        request = current_request.get()
        if request is None or request.processor is not self or span.context is None:
            return
        if span.kind is SpanKind.INTERNAL:
            # What the application takes for the present span may be one of FastAPI's own operations.
            _note_user(request, span)
            return
        covered = request.covered_spans is not None and id(span.context) in request.covered_spans
        if covered and request.covered_spans is not None:
            request.covered_spans.discard(id(span.context))
        if _is_orm(span):
            _leave_orm(request)
        if not covered and is_query(span):
            request.db_query_count += 1
            self._databases.seen = True

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Nothing to do."""
        return True


def is_query(span: ReadableSpan) -> bool:
    """Whether the span is a query to a database; handling connections or transactions is none."""
    attributes = span.attributes or {}
    if not any(name in attributes for name in _DB_SYSTEM):
        return False
    text = next((str(attributes[name]) for name in _DB_TEXT if name in attributes), span.name)
    start = text[:100].split(maxsplit=1)
    if not start:
        return True
    return start[0].rstrip(";").lower() not in _NOT_QUERIES and not text[:40].lower().startswith(_POOL_RESET)


def leave_ended_trace(inherited: ObservedRequest | None) -> "Token[Context] | None":
    """Leave the trace of an earlier request where this task has inherited it, and begin one of its own.

    A server that reads on while it serves a request reads the next one on that connection in the context of
    the first, with the first one's span as the current one, and instrumentations take that for a parent.

    Args:
        inherited: The request that the task takes itself to be in.

    Returns:
        For `context.detach`; None where there was nothing to leave.
    """
    if inherited is None or not inherited.ended_ns or inherited.span is None:
        return None
    current = trace.get_current_span()
    ours = inherited.span.get_span_context()
    if current.is_recording() or current.get_span_context().trace_id != ours.trace_id:
        return None
    return context.attach(Context())


class DatabaseInstrumentation:
    """Whether anything here could count database queries: then none is 0, else it is unknown."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.seen = False
        self._look_at = float("-inf")

    def is_active(self) -> bool:
        """Whether a query was seen, or an instrumentation of a database driver or ORM is switched on."""
        if not self.seen:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + _LOOK_AGAIN_SECONDS
                self.seen = any(_is_switched_on(name) for name in _INSTRUMENTATIONS)
        return self.seen


def attach(provider: Any, processor: SpanProcessor) -> bool:
    """Add our processor to a tracer provider and wrap its sampler, unless that is done.

    Args:
        provider: The SDK's, or one that wraps it.
        processor: Ours.

    Returns:
        Whether the provider can be observed; False for one that records nothing.
    """
    add = getattr(provider, "add_span_processor", None)
    if add is None or getattr(provider, "_disabled", False):
        return False
    if processor not in _processors(getattr(provider, "_active_span_processor", None)):
        add(processor)
    _wrap_sampler(provider)
    # The SDK copies the sampler into each tracer, and an instrumentation may have its tracer already.
    for tracer in list(getattr(provider, "_tracers", {}).values()):
        _wrap_sampler(tracer)
    return True


def attach_tracer(tracer: Any, processor: SpanProcessor) -> None:
    """Like `attach`, for a tracer whose provider cannot be reached."""
    tracer = getattr(tracer, "_tracer", tracer)  # behind the API's stand-in
    group = getattr(tracer, "span_processor", None)
    if group is None:
        return
    if processor not in _processors(group):
        group.add_span_processor(processor)
    _wrap_sampler(tracer)


def _processors(group: Any) -> tuple[SpanProcessor, ...]:
    return tuple(getattr(group, "_span_processors", ()))


def _wrap_sampler(owner: Any) -> None:
    sampler = getattr(owner, "sampler", None)
    if isinstance(sampler, Sampler) and not isinstance(sampler, RecordingSampler):
        owner.sampler = RecordingSampler(sampler)


def _note_user(request: ObservedRequest, span: ReadableSpan) -> None:
    attributes = span.attributes
    if attributes:
        user = next((attributes[name] for name in USER_ATTRIBUTES if name in attributes), None)
        request.span_user = request.span_user if user is None else user


def _place(request: ObservedRequest, span: Span) -> None:
    """Note whether the span is an ORM's, or a driver's that does the work of an ORM's.

    The ORM's span need not be the parent: SQLAlchemy's is not current while the driver runs. But it is open,
    in the same task or thread.
    """
    flow = _flow()
    if _is_orm(span):
        flows = request.orm_flows = request.orm_flows or {}
        flows[flow] = flows.get(flow, 0) + 1
    elif request.orm_flows and request.orm_flows.get(flow):
        covered = request.covered_spans = request.covered_spans or set()
        covered.add(id(span.context))


def _leave_orm(request: ObservedRequest) -> None:
    flow = _flow()
    if request.orm_flows and request.orm_flows.get(flow):
        request.orm_flows[flow] -= 1


def _is_orm(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name in _ORMS


def _flow() -> int:
    """Names the task, or the thread, that runs this."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else id(task)


def _is_switched_on(name: str) -> bool:
    module = sys.modules.get(f"opentelemetry.instrumentation.{name}")
    if module is None:
        return False
    classes = (value for key, value in vars(module).items() if key.endswith("Instrumentor"))
    return any(
        getattr(getattr(each, "_instance", None), "_is_instrumented_by_opentelemetry", False)
        for each in classes
    )
