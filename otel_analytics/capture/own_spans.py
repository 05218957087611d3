"""The SERVER span as we open it ourselves, where nobody else wants spans.

An event needs of it no more than that it is there: a parent for what the application opens below it, and a
place for the id of a user. FastAPI and the SDK do much more for one, which nobody would get to see.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext
from opentelemetry.util.types import AttributeValue

_ids: Final = RandomIdGenerator()


class OwnSpan(NonRecordingSpan):
    """Takes attributes until it ends, and is in the trace that came in; where none did, in none.

    A trace that begins here would lead nowhere; see `own_provider`.

    Attributes:
        start_time: Nanoseconds since 1970.
        attributes: Whatever was set.
    """

    def __init__(self, parent: SpanContext) -> None:
        """It begins now.

        Args:
            parent: Of whoever sent the request; not valid where that is not known.
        """
        super().__init__(_below(parent) if parent.is_valid else INVALID_SPAN_CONTEXT)
        self.start_time: Final = time.time_ns()
        self.attributes: Final[dict[str, AttributeValue]] = {}
        self._is_over = False

    def is_recording(self) -> bool:
        """Until it ends."""
        return not self._is_over

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Take it."""
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Take them."""
        self.attributes.update(attributes)

    def end(self, end_time: int | None = None) -> None:  # noqa: ARG002 - the signature of every span
        """It is over."""
        self._is_over = True


class OwnSpans:
    """Opens the SERVER spans of an application that has no other source of them."""

    def __init__(self, exclude: Callable[[Any], bool] | None) -> None:
        """Parents are read as the global propagator does.

        Args:
            exclude: Says of a scope whether the application wants no span for it.
        """
        self._exclude = exclude
        self._headers = frozenset(name.lower().encode() for name in propagate.get_global_textmap().fields)

    def open(self, scope: Any) -> tuple[OwnSpan, Context] | None:
        """A span for the request, and the context in which it is the current one; None where it gets none."""
        if self._exclude is not None and self._exclude(scope):
            return None
        found: dict[str, str] = {}
        for name, value in scope.get("headers", ()):
            if name in self._headers:
                key, text = name.decode("latin-1"), value.decode("latin-1")
                # A header sent twice is one list (RFC 9110, section 5.3).
                found[key] = f"{found[key]},{text}" if key in found else text
        around = propagate.extract(found) if found else None
        span = OwnSpan(trace.get_current_span(around).get_span_context())
        return span, trace.set_span_in_context(span, around)


def _below(parent: SpanContext) -> SpanContext:
    return SpanContext(
        parent.trace_id,
        _ids.generate_span_id(),
        is_remote=False,
        trace_flags=parent.trace_flags,
        trace_state=parent.trace_state,
    )
