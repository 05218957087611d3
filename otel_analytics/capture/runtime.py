"""What capture needs in a process that serves requests; made there, so that forks and reloads find it new."""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, MutableMapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span

from otel_analytics.capture.backlog import Backlog
from otel_analytics.capture.body_hash import BodyHash, key_of
from otel_analytics.capture.ended import EndReader, UserOf
from otel_analytics.capture.metrics_route import MetricsRoute
from otel_analytics.capture.observed import EventIds, ObservedRequest, current_request
from otel_analytics.capture.own_provider import OwnProvider
from otel_analytics.capture.own_spans import OwnSpan, OwnSpans
from otel_analytics.capture.recorder import Recorder
from otel_analytics.capture.sources import SpanSource
from otel_analytics.capture.tracing import (
    DatabaseInstrumentation,
    RequestSpanProcessor,
    attach,
    attach_tracer,
)
from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.live.directory import prepare
from otel_analytics.privacy import Privacy
from otel_analytics.record import SAFE_METHODS
from otel_analytics.settings import Settings
from otel_analytics_exporters.delivery import Delivery
from otel_analytics_exporters.span_exporter import EventSpanExporter

if TYPE_CHECKING:  # prometheus_client must not be imported before `prepare` has run
    from prometheus_client import CollectorRegistry

_log = logging.getLogger(__name__)


class Runtime:
    """The observer of one application's requests: turns them into events, counts them, delivers them.

    It starts with the first call in a process and begins anew in a forked child. Nothing it does raises into
    the application: an error is counted, and logged the first time.

    Attributes:
        is_started: Whether `prepare` and `start` were called in this process.
    """

    # Begun anew in a forked child.
    is_started: bool
    _lock: threading.Lock
    _prepared: bool
    _has_metrics: bool
    _ids: EventIds
    _recorder: Recorder
    _backlog: Backlog
    _own_spans: OwnSpans | None

    def __init__(
        self,
        app: Any,
        settings: Settings,
        exporter: EventSpanExporter,
        *,
        user_of: UserOf | None = None,
        registry: "CollectorRegistry | None" = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            app: The instrumented application.
            settings: All of them.
            exporter: Where events go.
            user_of: Names the user of a request.
            registry: Where live metrics appear; prometheus_client's own where None.
        """
        self.settings: Final = settings
        self._app = app
        self._exporter = exporter
        self._registry = registry
        self._privacy = Privacy(settings)
        self._excluded = frozenset(settings.excluded_paths)
        self.metrics_route: Final = (
            MetricsRoute(app, settings.metrics_path, self.scrape) if settings.metrics_path else None
        )
        self._hash_key = key_of(_hash_secret(settings)) if settings.response_hash else None
        self._databases = DatabaseInstrumentation()
        self._processor = RequestSpanProcessor(self._databases)
        self._ends = EndReader(app, self._privacy.client_fields, self._databases, user_of)
        self._forget()
        _runtimes.add(self)

    def prepare(self) -> None:
        """Do what must be done before the application starts up; once in a process."""
        if not self._prepared:
            with self._lock:
                if not self._prepared:
                    self._guarded(SpanSource(self._app).ensure)
                    self._guarded(self._prepare_metrics)
                    self._prepared = True

    def start(self) -> None:
        """Get ready for requests; once in a process.

        The application has started up by then, so that a tracer provider it sets there is the one to use.
        """
        if not self.is_started:
            with self._lock:
                if not self.is_started:
                    self._guarded(self._start)
                    self.is_started = True

    def stop(self) -> None:
        """Deliver what is left, within `flush_timeout_seconds`. May block for as long.

        The application may serve again afterwards, as it does under one test after the other.
        """
        delivery = self._recorder.delivery
        if delivery is not None and delivery.close(self.settings.flush_timeout_seconds):
            self._recorder.delivery = self._new_delivery()
            self._backlog.catch_up()  # with what came in between

    def begin(self, scope: MutableMapping[str, Any]) -> ObservedRequest | None:
        """See `layer.Observer`."""
        if self._recorder.delivery is None:
            return None
        try:
            path = self._path_below_root(scope)
            if path in self._excluded or self._is_scrape(path, scope["method"]):
                return None
            request = ObservedRequest(scope, self._ids.next(), self._processor)
            request.span = _span_around()
            if self._recorder.live is not None:
                self._recorder.live.request_started(request, request.method)
        except Exception as error:  # noqa: BLE001
            self.failed(error)
            return None
        return request

    def open_span(self, request: ObservedRequest) -> "Token[Context] | None":
        """See `layer.Observer`."""
        if self._own_spans is None or request.span is not None:
            return None
        try:
            opened = self._own_spans.open(request.scope)
            if opened is None:
                return None
            request.span, within = opened
            return context.attach(within)
        except Exception as error:  # noqa: BLE001
            request.tracing_failed = True
            self.failed(error)
            return None

    def new_hash(self) -> BodyHash | None:
        """See `layer.Observer`."""
        if self._hash_key is None:
            return None
        return BodyHash(self._hash_key, self.settings.response_hash_max_bytes)

    def end(self, request: ObservedRequest, body_hash: BodyHash | None) -> None:
        """See `layer.Observer`."""
        if isinstance(request.span, OwnSpan):
            request.span.end()
        live, delivery = self._recorder.live, self._recorder.delivery
        try:
            if live is not None:
                live.request_ended(request, request.method)
            ended = self._ends.read(request, body_hash)
            if request.problem is not None:
                self.failed(request.problem)
            if ended is not None and delivery is not None:
                self._backlog.add(ended, may_wait=delivery.is_running)
        except Exception as error:  # noqa: BLE001
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """See `layer.Observer`."""
        self._recorder.failed(error)

    def scrape(self, accept_header: str) -> tuple[bytes, str]:
        """The live metrics: the body and its content type."""
        from otel_analytics.live.metrics import exposition  # noqa: PLC0415 - see `prepare`

        return exposition(self._metrics_registry(), accept_header)

    def _is_scrape(self, path: str, method: str) -> bool:
        route = self.metrics_route
        return route is not None and path == route.path and method in SAFE_METHODS and not route.gives_way()

    def _path_below_root(self, scope: MutableMapping[str, Any]) -> str:
        path: str = scope["path"]
        # FastAPI puts its own into the scope, but not before it is called.
        root_path = getattr(self._app, "root_path", "") or scope.get("root_path", "")
        return path.removeprefix(root_path) if root_path else path

    def _prepare_metrics(self) -> None:
        if self.settings.metrics_path:
            prepare(os.environ)
            self._has_metrics = True

    def _start(self) -> None:
        if self._has_metrics:
            self._guarded(self._start_metrics)
        self._attach()
        delivery = self._recorder.delivery = self._new_delivery()
        # Before there are events, as it also sees to it that requests in progress are counted.
        delivery.start()

    def _new_delivery(self) -> Delivery:
        settings = self.settings
        return Delivery(
            self._exporter,
            buffer_size=settings.buffer_size,
            batch_size=settings.export_batch_size,
            interval_seconds=settings.export_interval_seconds,
            observer=self._recorder.pipeline,
            refill=self._backlog.catch_up,
        )

    def _start_metrics(self) -> None:
        from otel_analytics.live.metrics import LiveMetrics, PipelineMetrics  # noqa: PLC0415 - after `prepare`

        registry = self._metrics_registry()
        self._recorder.live = LiveMetrics(
            registry, max_routes=self.settings.metrics_max_routes, behind=self._backlog
        )
        self._recorder.pipeline = PipelineMetrics(registry)

    def _metrics_registry(self) -> "CollectorRegistry":
        from prometheus_client import REGISTRY  # noqa: PLC0415 - after `prepare`

        return self._registry or REGISTRY

    def _attach(self) -> None:
        source = SpanSource(self._app)
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # Nobody else wants spans, so none is recorded but those that an event is made of.
            trace.set_tracer_provider(OwnProvider())
        if isinstance(trace.get_tracer_provider(), OwnProvider):
            self._own_spans = source.take_over()
        providers = (trace.get_tracer_provider(), source.provider)
        observed = [attach(each, self._processor) for each in providers if each is not None]
        for tracer in source.tracers():
            attach_tracer(tracer, self._processor)
        if not any(observed):
            _log.warning(
                "otel-analytics: tracing is switched off (OTEL_SDK_DISABLED), so no request is recorded"
            )

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OtelAnalyticsError as error:
            _log.error("otel-analytics: %s", error)
        except Exception as error:  # noqa: BLE001
            self.failed(error)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._prepared = False
        self.is_started = False
        self._has_metrics = False
        self._ids = EventIds()
        self._recorder = Recorder(self._privacy)
        self._backlog = Backlog(self._recorder.record)
        self._own_spans = None


def _span_around() -> Span | None:
    """The SERVER span that a middleware around the application has opened for the request that begins."""
    current = trace.get_current_span()
    if (
        not isinstance(current, Span)
        or current.kind is not trace.SpanKind.SERVER
        or not current.is_recording()
    ):
        return None
    # An application that is called by another one, in the same process, stands in that one's span.
    caller = current_request.get()
    return None if caller is not None and current in (caller.span, caller.inner_span) else current


def _hash_secret(settings: Settings) -> str:
    """What all processes of a service know and nobody else: without a secret of its own, where events go."""
    where = settings.redis_url if settings.exporter == "redis" else settings.postgres_dsn
    return settings.hash_key or where


_runtimes: "weakref.WeakSet[Runtime]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for runtime in list(_runtimes):
        runtime._forget()  # noqa: SLF001


@atexit.register
def _stop_all() -> None:
    # Of use where nobody runs the lifespan. A server that is killed by the signal it got does not come here.
    for runtime in list(_runtimes):
        runtime.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
