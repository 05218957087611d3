"""Text from outside, made fit for a terminal or a cell."""

from collections.abc import Mapping
from typing import Any, Final

from rich.cells import cell_len

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_NOTHING: Final = "-"
_THOUSANDS: Final = (("", 1e3), ("k", 1e6), ("M", 1e9), ("G", 1e12))
_ONE_DECIMAL_BELOW: Final = 999.95
_WHOLE_BELOW: Final = 9_999.5


def harmless(text: str, *, keep: str = "") -> str:
    """The text with everything that could move a cursor or hide other text written as an escape.

    Args:
        text: From outside.
        keep: Characters that are left as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters as they would stand in a URL, but readable; `-` where there are none."""
    pairs = (
        f"{name}={value}"
        for name, values in params.items()
        for value in (values if isinstance(values, list) else [values])
    )
    return harmless("&".join(pairs)) or _NOTHING


def shorten_middle(text: str, cells: int) -> str:
    """The text in so many columns of a terminal at most: both ends of it, as they tell routes apart."""
    if cell_len(text) <= cells:
        return text
    tail = _first_cells(text[::-1], (cells - 1) // 2)[::-1]
    return _first_cells(text, cells - 1 - cell_len(tail)) + ELLIPSIS + tail


def shorten_end(text: str, cells: int) -> str:
    """The beginning of the text, in so many columns of a terminal at most."""
    return text if cell_len(text) <= cells else _first_cells(text, cells - 1) + ELLIPSIS


def compact(number: float) -> str:
    """A figure from 0 on in five characters: 0.5, 999.9, 9,999, 12.3k, 123k, 1.2M."""
    if number < _ONE_DECIMAL_BELOW:
        return f"{number:.1f}"
    if number < _WHOLE_BELOW:
        return f"{number:,.0f}"
    for suffix, end in _THOUSANDS:
        scaled = number / (end / 1e3)
        if scaled < _ONE_DECIMAL_BELOW and suffix:
            return f"{scaled:.1f}{suffix}" if scaled < 99.95 else f"{scaled:.0f}{suffix}"  # noqa: PLR2004
    return f"{number:.0e}"


def _first_cells(text: str, cells: int) -> str:
    taken = 0
    for index, character in enumerate(text):
        taken += cell_len(character)
        if taken > cells:
            return text[:index]
    return text
