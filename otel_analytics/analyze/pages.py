"""Which requests ask for the first pages of a pattern, judged by the requests that were seen."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_analytics.figures import RequestForm

SMALLEST_SHARE: Final = 0.01
"""Of a pattern's sampled requests; what was asked for less often is not worth a place in a cache."""


class Page(NamedTuple):
    """A request worth caching: the parameters it adds to the pattern, and its share of the requests."""

    varying: Mapping[str, Any]
    share: float


def first_pages(forms: Sequence[RequestForm], pages: int) -> list[Page] | None:
    """The requests for the first pages, page by page, in each the ones asked for most first.

    A page is known by the parameters `page` and `offset`. Without them it is the first one, and so it is with
    the smallest `page` seen, where that is 0 or 1. A `cursor` says nothing about the place, so a request
    that has one is on no page.

    Args:
        forms: All the forms in which one pattern was requested.
        pages: How many pages.

    Returns:
        None where no request was seen, so that nothing can be said.
    """
    total = sum(form.requests for form in forms)
    if not total:
        return None
    asked_for = [form for form in forms if form.requests >= SMALLEST_SHARE * total]
    numbers = [number for form in asked_for if (number := _number(form.varying.get("page"))) is not None]
    first = min([1, *numbers])
    placed = [(place, form) for form in asked_for if (place := _place(form.varying, first)) is not None]
    wanted = sorted({place for place, _ in placed})[:pages]
    chosen = sorted(
        (place, -form.requests, json.dumps(form.varying, sort_keys=True), form)
        for place, form in placed
        if place in wanted
    )
    return [Page(form.varying, form.requests / total) for *_, form in chosen]


def _place(varying: Mapping[str, Any], first_page: int) -> tuple[int, int] | None:
    """Where a request stands among the pages, None where that cannot be said."""
    if "cursor" in varying:
        return None
    page = _number(varying.get("page", first_page))
    offset = _number(varying.get("offset", 0))
    return None if page is None or offset is None else (page, offset)


def _number(value: Any) -> int | None:
    """A whole number from 0 on, None for anything else, such as a repeated parameter."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004
