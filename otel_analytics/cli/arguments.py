"""Kinds of arguments that more than one command takes."""

import datetime as dt
import re
from typing import Final, Literal

import typer

TableOrJson = Literal["table", "json"]
"""For people, or for programs: then nothing but the JSON goes to standard output."""
_BYTES: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def utc_moment(text: str) -> dt.datetime:
    """A date or a time as ISO 8601; UTC where it names no offset.

    Raises:
        typer.BadParameter: It is neither.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a date or time such as 2026-11-24 or 2026-11-24T13:30 (UTC)"
        ) from None


def memory_size(text: str) -> int:
    """An amount of memory in bytes.

    Raises:
        typer.BadParameter: It is none.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMG]I?B)", text.strip().upper())
    size = int(float(found[1]) * _BYTES[found[2]]) if found else 0
    if not size:
        raise typer.BadParameter(f"{text!r} is not an amount of memory, such as 256MB, 1.5GB or 512MiB")
    return size
