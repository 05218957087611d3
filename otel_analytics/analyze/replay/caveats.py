"""What to bear in mind with a figure: where it rests on too little, it says so and nothing is made up."""

import datetime as dt
from typing import Final, Literal, NamedTuple, Self

from otel_analytics.analyze.replay.results import Evidence, Outcome

Caveat = Literal["few requests", "short history", "long ttl", "coverage", "unknown bodies"]

MEANINGS: Final[dict[Caveat, str]] = {
    "few requests": "fewer requests than the setting min_evidence_requests",
    "short history": "raw events reach back less than the days asked for",
    "long ttl": "the time to live is more than a tenth of the history",
    "coverage": "some events were dropped before they were stored",
    "unknown bodies": "more than a tenth of the hits could not be compared with their copy",
}
_ENOUGH: Final = 0.9
_LONGEST_SHARE: Final = 0.1


class History(NamedTuple):
    """What a replay rests on.

    Attributes:
        asked_seconds: How far back was looked.
        seconds: How far back there are requests.
        requests: All of them.
        coverage: Share of the events that were accepted, from 0 to 1; None where the ledger knows of none.
    """

    asked_seconds: float
    seconds: float
    requests: int
    coverage: float | None

    @classmethod
    def of(
        cls,
        since: dt.datetime,
        until: dt.datetime,
        *,
        first_us: int | None,
        requests: int,
        coverage: float | None,
    ) -> Self:
        """That of a span.

        Args:
            since: The first moment that was asked for.
            until: The last.
            first_us: When the first request started, microseconds since 1970; None where there is none.
            requests: See the attributes.
            coverage: See the attributes.
        """
        seconds = 0.0 if first_us is None else until.timestamp() - first_us / 1_000_000
        return cls((until - since).total_seconds(), seconds, requests, coverage)


def caveats(
    outcome: Outcome, evidence: Evidence, history: History, *, min_evidence_requests: int
) -> tuple[Caveat, ...]:
    """What is to be said beside the outcome, in the order of `MEANINGS`.

    Args:
        outcome: At one time to live.
        evidence: Of the same pattern.
        history: Of the whole replay.
        min_evidence_requests: Requests of a pattern that are enough.
    """
    compared_enough = outcome.compared >= _ENOUGH * outcome.hits
    found: dict[Caveat, bool] = {
        "few requests": evidence.requests < min_evidence_requests,
        "short history": history.seconds < _ENOUGH * history.asked_seconds,
        "long ttl": outcome.ttl_seconds > _LONGEST_SHARE * history.seconds,
        "coverage": history.coverage is not None and history.coverage < 1,
        "unknown bodies": not compared_enough,
    }
    return tuple(caveat for caveat, holds in found.items() if holds)
