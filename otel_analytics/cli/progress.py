"""One line that says how far a long command has come."""

import logging
import sys
import time
from types import TracebackType
from typing import Final, Self

_SHOW_SECONDS: Final = 0.1
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """A line on standard error, written anew each time; silent where that is not a terminal.

    It makes way for log lines, and is gone at the end.
    """

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self.visible: Final = sys.stderr.isatty()
        self._due = 0.0

    def __enter__(self) -> Self:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._make_way)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._make_way)
        self._clear()

    def show(self, text: str) -> None:
        """Show the text instead of what was shown before, ten times a second at most."""
        now = time.monotonic()
        if self.visible and now >= self._due:
            self._due = now + _SHOW_SECONDS
            sys.stderr.write(_CLEAR + text)
            sys.stderr.flush()

    def _clear(self) -> None:
        if self.visible:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def _make_way(self, _: logging.LogRecord) -> bool:
        self._clear()
        return True
