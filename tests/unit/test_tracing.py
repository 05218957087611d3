"""Our part in OpenTelemetry's tracing, on the SDK itself. With servers and databases: tests/contract."""

import asyncio
import contextlib

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind

from otel_analytics.capture.observed import (
    EventIds,
    ObservedRequest,
    current_request,
    set_cache_status,
    set_user,
)
from otel_analytics.capture.tracing import (
    DatabaseInstrumentation,
    RecordingSampler,
    RequestSpanProcessor,
    attach,
    is_query,
    leave_ended_trace,
)
from otel_analytics.privacy import Privacy
from otel_analytics.settings import Settings

ORM, DRIVER = "opentelemetry.instrumentation.sqlalchemy", "opentelemetry.instrumentation.psycopg"
QUERY = {"db.system": "postgresql", "db.statement": "SELECT 1"}


class Tracing:
    """A provider with a sampler and an exporter of the user's, and our processor."""

    def __init__(self, sampler=ALWAYS_OFF):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.before = self.provider.get_tracer("made before")
        self.databases = DatabaseInstrumentation()
        self.processor = RequestSpanProcessor(self.databases)
        assert attach(self.provider, self.processor)

    def request(self):
        return ObservedRequest({"path": "/x", "method": "GET"}, EventIds().next(), self.processor)

    def query(self, scope=DRIVER, **attributes):
        tracer = self.provider.get_tracer(scope)
        return tracer.start_as_current_span("x", kind=SpanKind.CLIENT, attributes=attributes or QUERY)


@contextlib.contextmanager
def within(request):
    token = current_request.set(request)
    try:
        yield request
    finally:
        current_request.reset(token)


def test_a_dropped_server_span_is_recorded_and_not_exported():
    tracing = Tracing()
    for tracer in (tracing.before, tracing.provider.get_tracer("made after")):
        with (
            within(tracing.request()) as request,
            tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as span,
        ):
            assert span.is_recording()
            assert not span.get_span_context().trace_flags.sampled
            assert request.span is span
        with tracer.start_as_current_span("internal") as span:
            assert not span.is_recording()
    assert tracing.exporter.get_finished_spans() == ()


def test_a_sampled_span_stays_sampled():
    tracing = Tracing(ALWAYS_ON)
    with tracing.before.start_as_current_span("GET", kind=SpanKind.SERVER):
        pass
    assert len(tracing.exporter.get_finished_spans()) == 1


def test_client_spans_outside_of_requests_stay_dropped():
    tracing = Tracing()
    with tracing.query() as span:
        assert not span.is_recording()


def test_attaching_twice_changes_nothing():
    tracing = Tracing()
    assert attach(tracing.provider, tracing.processor)
    sampler = tracing.provider.sampler
    assert isinstance(sampler, RecordingSampler)
    assert sampler.wrapped is ALWAYS_OFF
    assert sampler.get_description() == "RecordingSampler(AlwaysOffSampler)"
    with within(tracing.request()) as request:
        with tracing.query():
            pass
        assert request.db_query_count == 1


def test_what_records_nothing_cannot_be_observed():
    assert not attach(trace.NoOpTracerProvider(), RequestSpanProcessor(DatabaseInstrumentation()))


def test_a_query_of_the_driver_within_one_of_the_orm_is_the_same_query():
    tracing = Tracing()
    with within(tracing.request()) as request:
        # SQLAlchemy's span is open meanwhile, but is not the current one.
        orm = tracing.provider.get_tracer(ORM).start_span("SELECT", kind=SpanKind.CLIENT, attributes=QUERY)
        with tracing.query():
            pass
        orm.end()
        assert request.db_query_count == 1
        with tracing.query():
            pass
        assert request.db_query_count == 2


def test_queries_of_tasks_that_run_at_once_are_told_apart():
    """One in an ORM, one in a driver alone, interleaved."""
    tracing = Tracing()

    async def orm(step):
        span = tracing.provider.get_tracer(ORM).start_span("SELECT", kind=SpanKind.CLIENT, attributes=QUERY)
        await step.wait()
        with tracing.query():
            pass
        span.end()

    async def driver(step):
        with tracing.query():
            step.set()
            await asyncio.sleep(0)

    async def both():
        with within(tracing.request()) as request:
            step = asyncio.Event()
            await asyncio.gather(orm(step), driver(step))
            return request.db_query_count

    assert asyncio.run(both()) == 2


def test_queries_of_threads_count():
    tracing = Tracing()

    def query():
        with tracing.query():
            pass

    async def in_threads():
        with within(tracing.request()) as request:
            await asyncio.gather(*(asyncio.to_thread(query) for _ in range(5)))
            return request.db_query_count

    assert asyncio.run(in_threads()) == 5


@pytest.mark.parametrize(
    ("attributes", "counts"),
    [
        ({"db.system": "postgresql", "db.statement": "SELECT 1"}, True),
        ({"db.system.name": "postgresql", "db.query.text": "select 1"}, True),
        ({"db.system.name": "postgresql", "db.operation.name": "INSERT"}, True),
        ({"db.system": "postgresql", "db.statement": "  \n"}, True),
        ({"db.system": "postgresql", "db.statement": "BEGIN;"}, False),
        ({"db.system": "postgresql", "db.statement": "\n begin\nisolation level serializable"}, False),
        ({"db.system": "postgresql", "db.statement": "COMMIT"}, False),
        ({"db.system": "postgresql", "db.statement": "ROLLBACK TO SAVEPOINT a"}, False),
        ({"db.system": "postgresql", "db.statement": "RELEASE SAVEPOINT a"}, False),
        ({"db.system": "postgresql", "db.statement": "SELECT pg_advisory_unlock_all();\nCLOSE ALL;"}, False),
        ({"db.system.name": "postgresql", "db.operation.name": "COMMIT", "db.query.text": "SELECT"}, False),
        ({"db.system": "postgresql"}, False),  # the span is called `connect`
        ({"http.request.method": "GET"}, False),
    ],
)
def test_what_is_a_query(attributes, counts):
    span = TracerProvider().get_tracer("x").start_span("connect", kind=SpanKind.CLIENT, attributes=attributes)
    assert is_query(span) == counts


def test_none_is_known_of_queries_until_there_is_one():
    tracing = Tracing()
    assert not DatabaseInstrumentation().is_active()
    with within(tracing.request()), tracing.query():
        pass
    assert tracing.databases.is_active()


def test_the_trace_of_a_request_that_is_over_is_left():
    tracing = Tracing(ALWAYS_ON)
    with within(tracing.request()) as request:
        span = tracing.before.start_span("GET", kind=SpanKind.SERVER)
        with trace.use_span(span):
            assert leave_ended_trace(request) is None
            request.ended_ns = 1
            span.end()
            token = leave_ended_trace(request)
            assert trace.get_current_span() is trace.INVALID_SPAN
            context.detach(token)
            assert trace.get_current_span() is span
        # Another trace is none of our business.
        with tracing.before.start_as_current_span("another"):
            assert leave_ended_trace(request) is None
    assert leave_ended_trace(None) is None


def test_what_the_application_says_is_cut_and_cleaned():
    with within(Tracing().request()) as request:
        set_user("a\x00b" * 1_000)
        assert len(request.user_id) == 512
        assert Privacy(Settings()).user(request.user_id) == ("a\ufffdb" * 1_000)[:512]
        set_user(None)
        assert request.user_id is None
        set_cache_status("  HIT ")
        assert request.cache_status == "hit"
        set_cache_status("a\x00b" * 1_000)
        assert request.cache_status == ("a\ufffdb" * 1_000)[:512]
        set_cache_status(" ")
        assert request.cache_status is None


def test_event_ids_do_not_repeat():
    one, other = EventIds(), EventIds()
    ids = {each.next() for each in (one, other) for _ in range(1_000)}
    assert len(ids) == 2_000
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)
