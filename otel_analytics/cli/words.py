"""Figures as people read them."""

import datetime as dt


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and what it counts, such as `1 event` or `2,000 events`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown_moment(moment: dt.datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
