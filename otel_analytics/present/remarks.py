"""What a command has to say about its answer, in one line each."""

import datetime as dt
import math
from collections.abc import Sequence

from otel_analytics.analyze.basis import Basis
from otel_analytics.figures import PatternFigures
from otel_analytics.present.text import harmless

_HOUR = dt.timedelta(hours=1)


def basis_line(basis: Basis) -> str:
    """What a ranking rests on."""
    span = (
        f", {_moment(basis.first)} to {_moment(basis.last + _HOUR)} UTC" if basis.first and basis.last else ""
    )
    requests = f"{basis.requests:,} requests in {_hours(basis.hours)}"
    return f"Based on {requests}{span}{_left_out(basis)}; {_coverage(basis)}."


def nothing_found(basis: Basis) -> str:
    """Why there is no candidate at all."""
    if left_out := _left_out(basis):
        return f"Nothing to rank in {last_days(basis)}{left_out}."
    if basis.waiting_hours:
        waiting = f"{_hours(basis.waiting_hours)} of requests wait to be rolled up"
        return f"No figures for {last_days(basis)}; {waiting}; run: otel-analytics rollup"
    if basis.latest_hour:
        latest = f"the latest are of {_moment(basis.latest_hour)} UTC"
        return f"No figures for {last_days(basis)}; {latest}; look further back with --days"
    return "No figures yet: nothing was stored. Is the application instrumented, and does the worker run?"


def last_days(basis: Basis) -> str:
    """The span in words, such as `the last 7 days`."""
    return f"the last {basis.days} days" if basis.days > 1 else "the last day"


def days_before(basis: Basis) -> str:
    """The span before in words, such as `the 7 days before`."""
    return f"the {basis.days} days before" if basis.days > 1 else "the day before"


def none_above(candidates: Sequence[PatternFigures], *, min_requests: float, min_latency: float) -> str:
    """Why no candidate is above the thresholds.

    Args:
        candidates: One or more.
        min_requests: The threshold, requests an hour.
        min_latency: The threshold, milliseconds of p95.
    """
    busiest = max(candidates, key=lambda each: (each.avg_hourly_requests, each.avg_p95_ms))
    slowest = max(candidates, key=lambda each: (each.avg_p95_ms, each.avg_hourly_requests))
    return (
        f"Nothing reaches both {min_requests:g} requests an hour (--min-requests)"
        f" and {min_latency:g} ms of p95 (--min-latency);"
        f" the busiest, {_figures(busiest)}; the slowest, {_figures(slowest)}"
    )


def none_to_cache(candidates: Sequence[PatternFigures], *, threshold: float) -> str:
    """Why there is no plan although something is ranked."""
    return (
        f"Nothing to cache: none of {len(candidates):,} patterns reaches both thresholds, scores more than"
        f" {threshold:g} (setting cache_score_threshold), is GET or HEAD and does not mostly fail;"
        " see: otel-analytics rank"
    )


def _figures(figures: PatternFigures) -> str:
    name = f"{harmless(figures.method)} {harmless(figures.route)}"
    return f"{name}, has {figures.avg_hourly_requests:,.1f} an hour and {figures.avg_p95_ms:,.1f} ms"


def _left_out(basis: Basis) -> str:
    parts = [
        (basis.unmatched_requests, "that no route matched"),
        (basis.overflow_requests, "of patterns too many to keep apart"),
    ]
    found = [f"{requests:,} {what}" for requests, what in parts if requests]
    return f"; left out: {' and '.join(found)}" if found else ""


def _coverage(basis: Basis) -> str:
    if basis.coverage is None:
        return "coverage unknown, the ledger is empty"
    offered = basis.accepted + basis.dropped
    # Rounded down, so that 100 % is said only of all.
    percent = math.floor(basis.coverage * 10_000) / 100
    return f"coverage {percent:g} % ({basis.dropped:,} of {offered:,} events dropped)"


def _hours(hours: int) -> str:
    return f"{hours:,} hour{'' if hours == 1 else 's'}"


def _moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
