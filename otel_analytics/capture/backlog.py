"""Requests that are over and wait to become events, a few of them at once."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from otel_analytics.capture.ended import Ended

_AT_ONCE: Final = 16
"""A sixth of a millisecond of work, for which one request in 16 waits. With more, p99 would notice."""


class Backlog:
    """Hands requests on in groups. Any thread may call it; after a fork the child needs one of its own.

    What the application does between two requests empties the processor's caches of everything of ours. Where
    several are taken one right after the other, only the first pays for that.
    """

    def __init__(self, take: Callable[[Sequence[Ended]], None]) -> None:
        """Nothing waits.

        Args:
            take: Makes events of requests; called by one thread at a time, and may not raise.
        """
        self._take = take
        self._waiting: deque[Ended] = deque()
        self._taking = threading.Lock()

    def add(self, ended: Ended, *, may_wait: bool) -> None:
        """Keep a request until there are enough of them; returns without waiting for another thread.

        Args:
            ended: The request.
            may_wait: Whether somebody will call `catch_up` soon; else it is handed on at once.
        """
        self._waiting.append(ended)
        if (len(self._waiting) >= _AT_ONCE or not may_wait) and self._taking.acquire(blocking=False):
            try:
                self._hand_on()
            finally:
                self._taking.release()

    def catch_up(self) -> None:
        """Hand on all that were added before; returns when that is done."""
        with self._taking:
            self._hand_on()

    def _hand_on(self) -> None:
        self._take([self._waiting.popleft() for _ in range(len(self._waiting))])
