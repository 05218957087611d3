"""Figures as they stand in a sentence."""

from typing import Final

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_BYTE_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000
_WHOLE_FROM: Final = 10


def time_text(seconds: float) -> str:
    """A round time, such as `1 minute` or `30 seconds`."""
    for unit, name in _UNITS:
        if seconds >= unit and seconds % unit == 0:
            number = round(seconds / unit)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return f"{seconds:g} seconds"


def number_text(number: float) -> str:
    """Three digits or so, such as 0.35, 7.2, 31 or 12,345."""
    if number == 0:
        return "0"
    if number < 1:
        return f"{number:.2g}"
    return f"{number:,.1f}".removesuffix(".0") if number < _WHOLE_FROM else f"{number:,.0f}"


def percent_text(share: float) -> str:
    """A share of 1; only none is 0 %, only all is 100 %."""
    percent = share * 100
    if 0 < percent < 0.1:  # noqa: PLR2004 - what follows would round it to nothing
        return "under 0.1 %"
    if 99.9 < percent < 100:  # noqa: PLR2004 - and this to all
        return "over 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def size_text(size: float) -> str:
    """Bytes in powers of a thousand."""
    for unit in _BYTE_UNITS[:-1]:
        if size < _THOUSAND:
            return f"{number_text(size)} {unit}"
        size /= _THOUSAND
    return f"{number_text(size)} {_BYTE_UNITS[-1]}"


def ms_text(milliseconds: float) -> str:
    """A duration in the unit that fits."""
    if milliseconds < _THOUSAND:
        return f"{number_text(milliseconds)} ms"
    return f"{number_text(milliseconds / _THOUSAND)} s"
