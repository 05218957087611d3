"""What a replay finds. All counts are of requests unless they say otherwise."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """What a cache with one time to live would have done for one route, method and pattern.

    Attributes:
        ttl_seconds: The time to live.
        requests: All of the pattern, cacheable or not.
        hits: Answered by the cache, those that joined a computation included.
        joined: Of the hits, those that waited for a computation under way; 0 without single flight.
        stored: Answers put into the cache.
        saved_seconds: Time of the application's that the hits would not have taken, less the latency of the
            cache and what they had to wait; nothing of it is ever negative.
        saved_queries: Database queries that the hits would not have run, as far as they were counted.
        saved_bytes: Body bytes that the application would not have sent, as far as they were counted.
        compared: Hits whose body, and that of the copy they got, are both known by their hash.
        stale: Of these, those where the two differ.
        foreign: Of the compared, those of a known user who got a copy made for another known user.
        foreign_stale: Of these, those where the bodies differ: what that user would not have been shown.
        masked_errors: Hits where the application had answered 4xx or 5xx.
        peak_bytes: Most memory that live entries took together at any moment.
        busiest_requests: Requests in the busiest hour of the pattern (UTC).
        busiest_hits: Hits in that hour.
    """

    ttl_seconds: float
    requests: int
    hits: int
    joined: int
    stored: int
    saved_seconds: float
    saved_queries: int
    saved_bytes: int
    compared: int
    stale: int
    foreign: int
    foreign_stale: int
    masked_errors: int
    peak_bytes: int
    busiest_requests: int
    busiest_hits: int

    @property
    def hit_ratio(self) -> float:
        """Hits of all requests."""
        return self.hits / self.requests if self.requests else 0.0

    @property
    def staleness(self) -> float | None:
        """Share of the compared hits that were stale; None where no hit could be compared."""
        return self.stale / self.compared if self.compared else None

    @property
    def peak_relief(self) -> float:
        """Share of the requests of the busiest hour that the cache takes off."""
        return self.busiest_hits / self.busiest_requests if self.busiest_requests else 0.0


class Evidence(NamedTuple):
    """What was seen of one route, method and pattern, whatever the cache.

    Attributes:
        requests: All of them.
        cacheable: Those that may be answered by the cache: safe method, key known, and user known where the
            key needs it.
        unsafe: Left out, because the method is not safe.
        unkeyed: Left out, because path or parameters were cut or hidden.
        without_user: Left out, because the key needs a user and there is none.
        storable: Of the cacheable, those whose answer may be stored: 2xx, 206 excepted.
        errors: Answered 4xx or 5xx.
        from_cache: Answered by a cache that the application has already.
        seconds: Time that all of them took.
        known_bodies: Storable answers whose body has a hash.
        known_sizes: Storable answers whose size is known.
        known_queries: Cacheable requests whose database queries were counted.
        known_users: Cacheable requests whose user is known.
        span_us: Start of the first and of the last request, microseconds since 1970-01-01 UTC.
    """

    requests: int
    cacheable: int
    unsafe: int
    unkeyed: int
    without_user: int
    storable: int
    errors: int
    from_cache: int
    seconds: float
    known_bodies: int
    known_sizes: int
    known_queries: int
    known_users: int
    span_us: tuple[int, int]


class GroupReplay(NamedTuple):
    """One route, method and pattern: what was seen of it, and what a cache would have done.

    Attributes:
        group: Its number in the columns that were replayed.
        evidence: What was seen.
        outcomes: One for each time to live, shortest first.
    """

    group: int
    evidence: Evidence
    outcomes: tuple[Outcome, ...]


def best(outcomes: "tuple[Outcome, ...]", *, staleness_limit: float) -> Outcome | None:
    """The outcome that saves most time among those whose staleness is known and not above the limit.

    Of equal ones that with the shortest time to live.

    Args:
        outcomes: Of one pattern, shortest time to live first.
        staleness_limit: Share of the compared hits, from 0 to 1.

    Returns:
        None where no time to live is admissible.
    """
    admissible = [
        each for each in outcomes if each.staleness is not None and each.staleness <= staleness_limit
    ]
    return max(admissible, key=lambda each: each.saved_seconds, default=None)
