"""How concentrated traffic is on users, without naming any."""

from typing import Final, NamedTuple

from otel_analytics.figures import UserShares

PLACES: Final = tuple(step * 10**power for power in range(9) for step in (1, 2, 5))
"""For so many of the users with most requests it is said what they sent together."""


class TopShare(NamedTuple):
    """What some users with most requests sent together.

    Attributes:
        users: How many they are.
        share_of_users: Of all users, from above 0 to 1.
        requests: That they sent.
        share_of_requests: Of all requests with a user, from above 0 to 1.
    """

    users: int
    share_of_users: float
    requests: int
    share_of_requests: float


def concentration(shares: UserShares) -> list[TopShare]:
    """From the one user with most requests to all users."""
    return [
        TopShare(place, place / shares.users, requests, requests / shares.user_requests)
        for place, requests in shares.up_to.items()
    ]
