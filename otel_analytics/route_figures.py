"""What the store hands to the rules about a route and method: figures, without a driver in sight."""

from typing import NamedTuple


class RouteTotals(NamedTuple):
    """A route and method over a span, by the hourly table.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        active_hours: Hours with requests.
        requests: All of them.
        client_errors: Answered 4xx.
        server_errors: Answered 5xx.
        seconds: Spent on all of them.
    """

    route: str
    method: str
    active_hours: int
    requests: int
    client_errors: int
    server_errors: int
    seconds: float


class HourOfDay(NamedTuple):
    """A route and method at one hour of the day (UTC).

    Attributes:
        hour: From 0 to 23.
        days: On which it had requests.
        requests: On all those days.
        most_requests: On the busiest of them.
    """

    hour: int
    days: int
    requests: int
    most_requests: int


class RouteSample(NamedTuple):
    """The latest raw requests of a route and method. Durations in milliseconds; None where nothing is known.

    Attributes:
        requests: That were looked at.
        plain: Answered 2xx, and not by a cache of the application's own; what follows is about these.
        p50_ms: Of their durations.
        p99_ms: Of their durations.
        ttfb_p50_ms: Of the times to the first byte.
        avg_size: Bytes of a response.
        p95_size: Bytes that 95 % of the responses do not exceed.
        counted_queries: Requests whose database queries were counted.
        avg_queries: Database queries of a request.
        deviation_queries: Standard deviation of the same.
        p95_queries: Queries that 95 % of the requests do not exceed.
        queries_by_size: Correlation of queries and bytes, from -1 to 1; None where one of them never varies.
        cache_hits: Of all requests, those that a cache of the application's own answered.
        cache_misses: Those that it could have answered, and did not.
        hit_ms: Mean duration of the hits.
        miss_ms: Mean duration of the misses.
    """

    requests: int
    plain: int
    p50_ms: float | None
    p99_ms: float | None
    ttfb_p50_ms: float | None
    avg_size: float | None
    p95_size: float | None
    counted_queries: int
    avg_queries: float | None
    deviation_queries: float | None
    p95_queries: float | None
    queries_by_size: float | None
    cache_hits: int
    cache_misses: int
    hit_ms: float | None
    miss_ms: float | None


class Dependence(NamedTuple):
    """Whether answers depend on something that is no part of the key: on the user, or on a parameter.

    Who asks, or the value of the parameter, is here the *sender*; unknown users are one sender. Answers to
    the same key are put in the order of time and compared, each with the one before, where that was complete
    before this one started.

    Attributes:
        requests: With a known body.
        senders: Different known ones.
        compared: Answers compared with the one before that went to another known sender.
        equal: Of these, those with the same body.
        equal_senders: Different senders of these.
        returns: Answers that gave back a body after another one had been seen in between. Content that merely
            changes with time does not do that.
        kept: Answers to a known sender who had got the same body before, with other requests in between.
        contradicted: Of these, those where the answer just before, to somebody else, had another body.
        own_returns: Answers that gave a sender back a body after that sender had got another one.
        lone: Senders of one request only.
        unproven: Senders of several requests that were compared and never found equal, or of five requests
            and more without a comparison.
    """

    requests: int
    senders: int
    compared: int
    equal: int
    equal_senders: int
    returns: int
    kept: int
    contradicted: int
    own_returns: int
    lone: int
    unproven: int


class KeyedRequest(NamedTuple):
    """A raw request with its key as it is, and without one parameter; 0 and -1 as in `RequestColumns`."""

    start_us: int
    duration_us: int
    key: int
    key_without: int
    user: int
    body: int
    size_bytes: int
    queries: int
    flags: int


class Parameter(NamedTuple):
    """A query parameter of a route and method.

    Attributes:
        name: As sent.
        requests: Sampled requests that have it.
        values: Different values among them.
    """

    name: str
    requests: int
    values: int
