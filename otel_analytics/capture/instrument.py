"""The two lines in the application: `from otel_analytics import instrument` and `instrument(app)`."""

import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.applications import Starlette

from otel_analytics.capture.ended import UserOf
from otel_analytics.capture.layer import Message, Receive, Scope, Send, observe
from otel_analytics.capture.runtime import Runtime
from otel_analytics.errors import SettingsError, UsageError
from otel_analytics.settings import Settings, load
from otel_analytics_exporters.span_exporter import EventSpanExporter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_log = logging.getLogger(__name__)

_RUNTIME: Final = "_otel_analytics_runtime"
_STARTUP_IS_OVER: Final = "lifespan.startup.complete"
_SHUTDOWN_IS_OVER: Final = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


def instrument(
    app: Starlette,
    *,
    user_of: UserOf | None = None,
    registry: "CollectorRegistry | None" = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> None:
    """Record every HTTP request of the application, and serve its live metrics.

    Call it once, where the application is made; before or after routes, middleware and other instrumentation
    are added does not matter. Nothing is connected and no thread started before the application serves, so it
    works with forking and reloading servers. Websockets pass untouched.

    Args:
        app: FastAPI's or Starlette's.
        user_of: Names the user of a request where `set_user` did not: gets the request, gives something whose
            text is the user's id, or None. Called when the response is complete, on the event loop, so it
            must be quick and is not async.
        registry: Where live metrics appear; prometheus_client's own where None.
        settings: All of them at once, in place of `overrides` and what the environment says.
        overrides: Single settings by name; see `Settings`.

    Raises:
        SettingsError: A setting cannot be used, or its exporter is not installed.
        UsageError: The application is not one of Starlette's kind, or `user_of` is async.
    """
    if not isinstance(app, Starlette):
        raise UsageError(
            "instrument() takes a FastAPI or Starlette application; call it before wrapping it in others"
        )
    if inspect.iscoroutinefunction(user_of):
        raise UsageError(
            "user_of must be a plain function; use set_user() where the user is found by async code"
        )
    if settings is not None and overrides:
        raise UsageError("instrument() takes settings as a whole or one by one, not both")
    if hasattr(app, _RUNTIME):
        _log.warning(
            "otel-analytics: the application is instrumented already; the second instrument() changes nothing"
        )
        return
    settings = settings or load(overrides)
    runtime = Runtime(app, settings, _exporter(settings), user_of=user_of, registry=registry)
    if runtime.metrics_route is not None:
        app.router.routes.insert(0, runtime.metrics_route)
    setattr(app, _RUNTIME, runtime)
    _wrap(app)


def _exporter(settings: Settings) -> EventSpanExporter:
    if settings.exporter == "redis":
        from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter  # noqa: PLC0415 - one of two

        return RedisStreamSpanExporter(settings)
    try:
        from otel_analytics_exporters.postgres import PostgresSpanExporter  # noqa: PLC0415 - one of two
    except ImportError as error:
        raise SettingsError(
            "setting exporter: postgres needs the driver; install otel-analytics[postgres]"
        ) from error
    return PostgresSpanExporter(settings)


def _wrap(app: Starlette) -> None:
    """Put the layer around everything that serves the application.

    Middleware, even the outermost, is inside of FastAPI's own tracing, and of the handler that turns an
    exception into a response; other instrumentations replace the middleware stack as a whole. What is left is
    the call itself. Python looks it up on the class, so the application gets one of its own, the same in all
    else.
    """
    original = type(app)

    async def serve(self: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
        runtime: Runtime = getattr(self, _RUNTIME)
        if not runtime.is_started:
            runtime.prepare()
            if scope["type"] == "http":
                runtime.start()
        call = partial(original.__call__, self)
        if scope["type"] == "http":
            await observe(call, runtime, scope, receive, send)
        elif scope["type"] == "lifespan":
            await call(scope, receive, partial(_follow_lifespan, runtime, send))
        else:
            await call(scope, receive, send)

    names = {"__call__": serve, "__module__": original.__module__, "__qualname__": original.__qualname__}
    app.__class__ = type(original.__name__, (original,), {**names, "__doc__": original.__doc__})


async def _follow_lifespan(runtime: Runtime, send: Send, message: Message) -> None:
    if message["type"] == _STARTUP_IS_OVER:
        runtime.start()
    # Servers kill themselves with the signal they got, so this is the last moment; atexit does not run.
    elif message["type"] in _SHUTDOWN_IS_OVER:
        await anyio.to_thread.run_sync(runtime.stop)
    await send(message)
