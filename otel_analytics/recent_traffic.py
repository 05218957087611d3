"""The last minutes of traffic, read from the stream as it comes."""

import time
from collections.abc import Callable
from itertools import chain
from typing import Final

from otel_analytics.analyze.recent import Frame, Window
from otel_analytics.errors import InvalidEvent
from otel_analytics.present.question_rows import LiveRow, live_row
from otel_analytics.record import Event, decode_events, parse_event
from otel_analytics.stream import Entry, Inspector
from otel_analytics.stream.keys import id_parts

READ_SECONDS: Final = 0.5
"""How long one call of `read` may go on; what is left is for the next."""


class RecentTraffic:
    """A window that is kept up to date; each entry is read once, and only by this reader."""

    def __init__(
        self, stream: Inspector, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is read yet.

        Args:
            stream: Where the events are.
            seconds: Length of the window.
            clock: Seconds that only grow.
        """
        self._stream = stream
        self._clock = clock
        self._window = Window(seconds)
        self.seconds: Final = seconds
        self._next_id: str | None = None
        self.now = 0.0
        self.behind_seconds = 0.0
        self.unreadable = 0

    def read(self) -> None:
        """Read what is new, for a bounded time.

        Afterwards `now` is the time on the Redis server, and `behind_seconds` the age of the first entry that
        is left for the next time, 0 where there is none.

        Raises:
            StreamUnavailable: Redis did not answer. What was read stays.
        """
        end = self._clock() + READ_SECONDS
        self.now = self._stream.clock()
        if self._next_id is None:
            self._next_id = f"{max(0, int((self.now - self.seconds) * 1_000))}-0"
        self.behind_seconds = 0.0
        for entry in chain.from_iterable(self._stream.pages(self._next_id, "+")):
            if self._clock() >= end:
                self.behind_seconds = max(0.0, self.now - id_parts(entry.id)[0] / 1_000)
                return
            self._window.add(self._events(entry), self.now)
            self._next_id = f"({entry.id}"

    def frame(self) -> Frame:
        """What happened up to `now`."""
        return self._window.frame(self.now)

    def rows(self, frame: Frame) -> list[LiveRow]:
        """The routes of a frame as they are shown, most requests first."""
        return [live_row(*key, figures, self.seconds) for key, figures in frame.routes.items()]

    def _events(self, entry: Entry) -> list[Event]:
        found: list[Event] = []
        try:
            items = decode_events(entry.fields.get(b"events", b""))
        except InvalidEvent:
            self.unreadable += 1
            return found
        for item in items:
            try:
                found.append(parse_event(item))
            except InvalidEvent:
                self.unreadable += 1
        return found
