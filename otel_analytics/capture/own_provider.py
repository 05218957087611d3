"""The tracer provider for applications that have none: it records for us, and nobody else notices it."""

import threading
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

_NO_ID: Final = 0


class QuietIds(IdGenerator):
    """No ids for a trace that begins here, ordinary ones within a trace that came in.

    Without a tracer provider, a request has no valid span: nothing goes into outgoing headers or log lines. A
    trace that begins here leads nowhere, as no span is exported; ids for it would make services further on
    take it up, and drop their own part since it is not sampled.
    """

    def __init__(self) -> None:
        """Ordinary ids are random."""
        self._random = RandomIdGenerator()
        self._begins = threading.local()

    def generate_trace_id(self) -> int:
        """Of a trace that begins here; the SDK asks for the id of its first span right afterwards."""
        self._begins.here = True
        return _NO_ID

    def generate_span_id(self) -> int:
        """Of a span: none for the first one of a trace that begins here."""
        if getattr(self._begins, "here", False):
            self._begins.here = False
            return _NO_ID
        return self._random.generate_span_id()

    def is_trace_id_random(self) -> bool:
        """Not where there is none."""
        return False


class OwnProvider(TracerProvider):
    """A provider that samples nothing; a trace that came in sampled is passed on as such."""

    def __init__(self) -> None:
        """Nobody has to shut it down."""
        super().__init__(sampler=ParentBased(ALWAYS_OFF), id_generator=QuietIds(), shutdown_on_exit=False)
