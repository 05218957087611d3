"""What a ranking rests on."""

import datetime as dt
from typing import NamedTuple


class Basis(NamedTuple):
    """How much was looked at, and how much of what happened that is.

    Attributes:
        days: How far back was looked.
        hours: Hours with figures among them.
        first: The first of these hours; None where there is none.
        last: The last of them.
        requests: Requests of the patterns that were ranked.
        unmatched_requests: Left out, because no route matched.
        overflow_requests: Left out, because their patterns were too many in an hour to be kept apart.
        accepted: Events that the stream ever accepted.
        dropped: Events that applications had to give up.
        latest_hour: The last hour that has figures, whenever that was; None where none ever had.
        waiting_hours: Hours with requests that are not rolled up yet.
    """

    days: int
    hours: int
    first: dt.datetime | None
    last: dt.datetime | None
    requests: int
    unmatched_requests: int
    overflow_requests: int
    accepted: int
    dropped: int
    latest_hour: dt.datetime | None
    waiting_hours: int

    @property
    def coverage(self) -> float | None:
        """Share of the events that were accepted, from 0 to 1; None where the ledger knows of none."""
        offered = self.accepted + self.dropped
        return self.accepted / offered if offered else None
