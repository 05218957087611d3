"""Which patterns can be ranked, and the order in which equals stand."""

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from otel_analytics.figures import PatternFigures
from otel_analytics.record import OVERFLOW_PATTERN, SAFE_METHODS, UNMATCHED_ROUTE

_OVERFLOW: Final = json.dumps(OVERFLOW_PATTERN)


class Candidates(NamedTuple):
    """The patterns that stand for something a cache could hold, and what they leave out.

    Attributes:
        figures: To be ranked.
        requests: Requests of all of them.
        unmatched_requests: Left out, because no route matched.
        overflow_requests: Left out, because their patterns were too many in an hour to be kept apart.
    """

    figures: list[PatternFigures]
    requests: int
    unmatched_requests: int
    overflow_requests: int


def candidates(figures: Iterable[PatternFigures]) -> Candidates:
    """Separate what can be ranked from what cannot."""
    kept: list[PatternFigures] = []
    unmatched = overflow = 0
    for each in figures:
        if each.route == UNMATCHED_ROUTE:
            unmatched += each.total_requests
        elif each.pattern == _OVERFLOW:
            overflow += each.total_requests
        else:
            kept.append(each)
    return Candidates(kept, sum(each.total_requests for each in kept), unmatched, overflow)


def name_order(figures: PatternFigures) -> tuple[str, str, str]:
    """How patterns with the same score are sorted, so that a ranking is the same each time."""
    return figures.route, figures.method, figures.pattern


def mostly_fails(figures: PatternFigures) -> bool:
    """Whether more than half of the answers are errors, which a cache does not keep."""
    return 2 * figures.failed_requests > figures.total_requests


def is_cacheable(figures: PatternFigures) -> bool:
    """Whether answers may be kept, as far as the method tells."""
    return figures.method in SAFE_METHODS
