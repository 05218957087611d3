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
        # A request may end in the middle of it, when the garbage collector closes what was abandoned.
        self._taking = threading.RLock()

    def add(self, ended: Ended, *, may_wait: bool) -> None:
        """Keep a request until there are enough of them.

        Args:
            ended: The request.
            may_wait: Whether somebody will call `catch_up` soon; then no other thread is waited for. Else it
                is handed on at once.
        """
        self._waiting.append(ended)
        if not may_wait:
            self.catch_up()
        elif len(self._waiting) >= _AT_ONCE and self._taking.acquire(blocking=False):
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
