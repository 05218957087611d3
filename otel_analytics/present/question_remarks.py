"""What the questions have to say about their answers, in one line each."""

from otel_analytics.analyze.basis import Basis
from otel_analytics.analyze.trends import Trend
from otel_analytics.figures import UserShares
from otel_analytics.present.question_rows import PeakRow
from otel_analytics.present.question_tables import change_text
from otel_analytics.present.remarks import basis_line, days_before, last_days
from otel_analytics.present.text import compact, harmless


def no_requests(route: str, basis: Basis, similar: str | None) -> str:
    """That a route has none although others have, and which one was probably meant."""
    meant = f"; did you mean {harmless(similar)}?" if similar else ""
    return f"No requests of {harmless(route)} in {last_days(basis)}{meant}"


def no_peak(busiest: PeakRow, *, min_requests: float) -> str:
    """Why nothing is above the threshold although there is traffic."""
    where = f"{harmless(busiest.route)} at {busiest.hour_of_day:02}:00 UTC"
    return (
        f"No hour of the day has more than {min_requests:g} requests on average (--min-requests);"
        f" the busiest, {where}, has {busiest.avg_hourly_requests:,.1f}"
    )


def no_errors(basis: Basis) -> str:
    """That nothing failed."""
    return f"No 4xx and no 5xx in {last_days(basis)}: {basis_line(basis)}"


def whole_span(basis: Basis, whole: Trend) -> str:
    """A trend in short, and what it rests on."""
    p95 = "" if whole.p95_ms is None else f"; p95 {compact(whole.p95_ms)} ms"
    if whole.requests_change is None:
        against = f"{p95}; none in {days_before(basis)} to compare with."
    else:
        change = change_text(whole.requests_change)
        against = f", {change} against {days_before(basis)}{p95}, {change_text(whole.p95_change)}."
    return f"All {basis.requests:,} requests{against} {basis_line(basis)}"


def users_line(basis: Basis, shares: UserShares) -> str:
    """How many users there are and what that rests on, or what to do where there are none."""
    if not shares.users:
        return (
            f"None of {basis.requests:,} requests in {last_days(basis)} names a user; say who it is with"
            " set_user(), user_of or the attribute user.id"
        )
    users = f"{shares.users:,} user{'' if shares.users == 1 else 's'}"
    return f"{users}; {shares.anonymous_requests:,} requests without one. {basis_line(basis)}"
