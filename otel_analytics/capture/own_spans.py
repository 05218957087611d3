"""The SERVER span as we open it ourselves, where nobody else wants spans.

An event needs of it no more than that it is there: a parent for what the application opens below it, and a
place for the id of a user. What FastAPI puts into its own, nobody would get to see.
"""

from collections.abc import Callable
from contextvars import Token
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from otel_analytics.capture.observed import ObservedRequest

_NAME: Final = "otel_analytics"


class OwnSpans:
    """Opens and closes the SERVER spans of an application that has no other source of them."""

    def __init__(self, exclude: Callable[[Any], bool] | None) -> None:
        """Spans of the global provider, and parents as the global propagator reads them.

        Args:
            exclude: Says of a scope whether the application wants no span for it.
        """
        self._exclude = exclude
        self._tracer = trace.get_tracer(_NAME)
        self._headers = frozenset(name.lower().encode() for name in propagate.get_global_textmap().fields)

    def begin(self, request: ObservedRequest) -> Token[Context] | None:
        """Open the span of the present request and make it the current one.

        Returns:
            For `context.detach`; None where it has one already, or is to have none.
        """
        scope = request.scope
        if request.span is not None or (self._exclude is not None and self._exclude(scope)):
            return None
        parent = self._parent(scope)
        span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER)
        return context.attach(trace.set_span_in_context(span, parent))

    def end(self, request: ObservedRequest) -> None:
        """Close the span."""
        if request.span is not None:
            request.span.end()

    def _parent(self, scope: Any) -> Context | None:
        found: dict[str, str] = {}
        for name, value in scope.get("headers", ()):
            if name in self._headers:
                key, text = name.decode("latin-1"), value.decode("latin-1")
                # A header sent twice is one list (RFC 9110, section 5.3).
                found[key] = f"{found[key]},{text}" if key in found else text
        return propagate.extract(found) if found else None
