"""Kinds of arguments that more than one command takes."""

import datetime as dt
import re
from typing import Annotated, Final, Literal

import typer

TableOrJson = Literal["table", "json"]
"""For people, or for programs: then nothing but the JSON goes to standard output."""
TableJsonOrCsv = Literal["table", "json", "csv"]
Format = Annotated[TableJsonOrCsv, typer.Option("--format", help="For people or for programs.")]
Top = Annotated[
    int | None,
    typer.Option("-n", metavar="N", min=1, max=1_000_000, help="Rows to show. [top_n_routes, 20]"),
]
Route = Annotated[str, typer.Argument(metavar="ROUTE", help="A template, such as '/items/{id}'.")]
OneRoute = Annotated[
    str | None,
    typer.Argument(metavar="ROUTE", help="A template, such as '/items/{id}'; all routes without it."),
]
Days = Annotated[
    int | None, typer.Option(metavar="D", min=1, max=36_500, help="Days of history to look at. [days, 7]")
]
MinRequests = Annotated[
    float | None,
    typer.Option(metavar="X", min=0, help="Leave out what has fewer requests an hour. [min_requests, 10]"),
]
MinLatency = Annotated[
    float | None,
    typer.Option(metavar="MS", min=0, help="Leave out what has a lower p95, in ms. [min_latency, 100]"),
]
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


def checked_route(route: str | None) -> str | None:
    """The route where it can be one.

    Raises:
        typer.BadParameter: The database cannot hold such a text, so it is no route.
    """
    from otel_analytics.record import is_storable

    if route is not None and not is_storable(route):
        raise typer.BadParameter("it holds a character that no route has", param_hint="ROUTE")
    return route
