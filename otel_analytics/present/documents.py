"""Rows for programs: JSON and CSV."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from otel_analytics.present.text import harmless

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


def json_text(rows: Sequence[NamedTuple]) -> str:
    """The rows as one JSON array of objects. It is ASCII, so nothing in it can steer a terminal."""
    return json.dumps([row._asdict() for row in rows], indent=2, allow_nan=False)


def csv_text(rows: Sequence[NamedTuple], fields: Sequence[str]) -> str:
    """A header and the rows as RFC 4180 has them.

    Objects are JSON, truth is `true` or `false`, null is empty. An apostrophe stands before text that a
    spreadsheet would take for a formula; control characters are written as escapes, but for those of lines.

    Args:
        rows: May be none.
        fields: The names for the header.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(fields)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case str():
            text = harmless(value, keep="\t\r\n")
            return f"'{text}" if text.startswith(FORMULA_STARTS) else text
        case bool() | dict() | list():
            return json.dumps(value)
        case _:
            return value
