"""Whether a copy may be shared: what the answers to one key say about those they were given to."""

from collections.abc import Mapping
from typing import Final, Literal

from otel_analytics.route_figures import Dependence

Sharing = Literal["same", "private", "unclear", "few users", "no users", "no bodies"]
"""
- `same`: enough users got the same body, and nothing speaks against it.
- `private`: users keep their own body while others get another one.
- `unclear`: answers come and go for some other reason, or are hardly ever the same.
- `few users`: too few of them to prove anything.
- `no users`: nobody was named.
- `no bodies`: no body could be compared.
"""
_OFTEN: Final = 0.5


def sharing(found: Dependence, limits: Mapping[str, float]) -> Sharing:
    """Judge whether the answers of a route are the same for all users.

    The test does not take content that changes with time for a personal page: a body that is given back after
    another one was seen cannot be explained by time.

    Args:
        found: With the user as the sender.
        limits: `min_cases`, `min_contradicted_share` and `min_users` of the rule never-share.
    """
    if not found.requests:
        return "no bodies"
    if (
        found.contradicted >= limits["min_cases"]
        and found.contradicted >= limits["min_contradicted_share"] * found.kept
        and is_doubtful(found)
    ):
        return "private"
    # One is enough to doubt: of a page that is the same for most, such as an empty cart, a few may be
    # personal.
    never_equal = found.compared >= limits["min_cases"] and not found.equal
    if found.returns or found.contradicted or never_equal:
        return "unclear"
    if not found.senders:
        return "no users"
    if found.equal_senders >= limits["min_users"] and found.equal >= limits["min_cases"]:
        return "same"
    return "few users"


def is_doubtful(found: Dependence) -> bool:
    """Whether anything at all says that answers depend on the user, be it of one in a thousand.

    A page may be personal for few users only: all others getting the same does not make it one to share.
    """
    # Where a user's own answers come and go as well, it is not the user that they depend on.
    return found.contradicted > 0 and found.own_returns < _OFTEN * found.contradicted
