"""Who opens the SERVER spans of an application: FastAPI itself, an instrumentation, or one we switch on."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import Mount

from otel_analytics.capture.observed import current_request
from otel_analytics.capture.own_spans import OwnSpans
from otel_analytics.errors import UsageError

_MIDDLEWARE: Final = "OpenTelemetryMiddleware"
_ONLY_SERVER_SPANS: Final = ("send", "receive")
_TAKEN_OVER: Final = "otel_analytics"
"""Key in FastAPI's configuration where its tracing is off because of us, in this process or the one it forked
from."""
_ENTERED: Final = "otel_analytics.entered"
"""Key in the scope of a request that has reached the application."""


class SpanSource:
    """The source of spans of one application that has not served anything yet."""

    def __init__(self, app: Starlette) -> None:
        """Look at the application; nothing is changed.

        Args:
            app: FastAPI's or Starlette's.
        """
        self._app = app
        # FastAPI has tracing of its own since 0.142. Its configuration can only be given to the constructor,
        # which is over by now.
        self._telemetry: dict[str, Any] = getattr(app, "_telemetry", {})

    @property
    def provider(self) -> Any:
        """The tracer provider that FastAPI was given; None where it uses the global one."""
        return self._telemetry.get("tracer_provider")

    def take_over(self) -> OwnSpans | None:
        """Open the spans in place of FastAPI, where nobody would get to see what it puts into them.

        Returns:
            None where FastAPI would open none, or something else opens them.
        """
        traces = self._telemetry.get("tracing") or _TAKEN_OVER in self._telemetry
        if not traces or self.provider is not None or any(self.tracers()):
            return None
        for each in (self._app, *_mounted(self._app.routes)):
            telemetry: dict[str, Any] = getattr(each, "_telemetry", {})
            if telemetry.get("tracing") and telemetry.get("tracer_provider") is None:
                telemetry["tracing"] = False
                telemetry[_TAKEN_OVER] = True
        return OwnSpans(self._telemetry.get("exclude"))

    def ensure(self) -> None:
        """Switch on an instrumentation where nothing opens spans: FastAPI before 0.142, and plain Starlette.

        Raises:
            UsageError: The instrumentation is not installed.
        """
        if self._telemetry or self._is_instrumented() or self._app.middleware_stack is not None:
            return
        try:
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415 - seldom needed
        except ImportError as error:
            raise UsageError(
                "this version of FastAPI or Starlette opens no spans, so no request is recorded;"
                " install opentelemetry-instrumentation-asgi (it comes with otel-analytics[fastapi])"
            ) from error
        self._app.add_middleware(_ServerSpans, OpenTelemetryMiddleware)

    def tracers(self) -> Iterator[Any]:
        """Tracers of instrumentations in the middleware, which may have a provider of their own."""
        app = self._app
        if app.middleware_stack is None:
            app.middleware_stack = app.build_middleware_stack()
        layer: Any = app.middleware_stack
        seen: set[int] = set()
        while layer is not None and id(layer) not in seen:
            seen.add(id(layer))
            if type(layer).__name__ == _MIDDLEWARE:
                yield layer.tracer
            layer = getattr(layer, "app", None)

    def _is_instrumented(self) -> bool:
        flags = ("_is_instrumented_by_opentelemetry", "is_instrumented_by_opentelemetry")
        return any(getattr(self._app, flag, False) for flag in flags) or any(
            getattr(each.cls, "__name__", "") == _MIDDLEWARE for each in self._app.user_middleware
        )


def _mounted(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        if isinstance(route, Mount):
            yield route.app
            yield from _mounted(route.routes or ())


class _ServerSpans:
    """OpenTelemetry's middleware, as we switch it on: where it fails, the application is served without it.

    It takes query and headers for UTF-8 and raises on other bytes, before the application is called. And it
    reads the headers of a response more than once, which not any iterable bears.
    """

    def __init__(self, app: Any, middleware: Any) -> None:
        self._inner = app
        self.app = middleware(self._serve, exclude_spans=list(_ONLY_SERVER_SPANS))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            if _ENTERED in scope:
                raise
        if _ENTERED not in scope:
            request = current_request.get()
            if request is not None:
                request.tracing_failed = True
            await self._inner(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        scope[_ENTERED] = True

        async def send_list(message: Any) -> None:
            if not isinstance(message.get("headers", ()), (list, tuple)):
                message["headers"] = list(message["headers"])
            await send(message)

        await self._inner(scope, receive, send_list)
