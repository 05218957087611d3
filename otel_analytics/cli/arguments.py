"""Kinds of arguments that more than one command takes."""

import datetime as dt
from typing import Literal

import typer

TableOrJson = Literal["table", "json"]
"""For people, or for programs: then nothing but the JSON goes to standard output."""


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
