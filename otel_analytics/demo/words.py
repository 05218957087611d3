"""What the rankings of the demo mean, in plain words."""

from typing import Any
from urllib.parse import urlencode

from rich.markup import escape

Rows = list[dict[str, Any]]


def absolute_in_words(rows: Rows) -> str:
    """Of the absolute ranking, as JSON has it."""
    if not rows:
        return "Nothing is asked for often enough and is slow enough to be worth caching."
    first = rows[0]
    spent = first["avg_hourly_requests"] * first["avg_p95_latency_ms"] / 1_000
    words = (
        "[bold]In plain words:[/] this ranking keeps what is slow (a p95 of 100 ms or more) and asked for at"
        " least 10 times an hour, and the number of requests weighs most. First comes"
        f" [bold]{_named(first)}[/]: {first['avg_hourly_requests']:,.0f} requests an hour at a p95 of"
        f" {first['avg_p95_latency_ms']:,.0f} ms, up to {spent:,.0f} seconds of work in every hour."
    )
    personal = next((row for row in rows if "/me/" in row["route"]), None)
    if personal is not None:
        words += (
            f" Mind [bold]{_named(personal)}[/]: everybody gets another answer there, which neither ranking"
            " looks at, so cache it for each user or not at all."
        )
    return words


def relative_in_words(rows: Rows) -> str:
    """Of the relative ranking, as JSON has it."""
    # The stream is slow by intent.
    rows = [row for row in rows if not row["route"].endswith("/events")]
    if not rows:
        return "There is nothing to compare."
    slow = max(rows, key=lambda row: row["avg_p95_latency_ms"])
    return (
        "[bold]In plain words:[/] this ranking has no thresholds; it sets each route against all the others."
        f" So [bold]{_named(slow)}[/] surfaces, though it is asked for only"
        f" {slow['avg_hourly_requests']:,.1f} times an hour: with a p95 of"
        f" {slow['avg_p95_latency_ms']:,.0f} ms, {slow['latency_percentile']:.0f} % of all are as quick or"
        " quicker. Not much work is saved there, but somebody waits for it."
    )


def _named(row: dict[str, Any]) -> str:
    pattern = urlencode(row["query_params_normalized"], doseq=True)
    return escape(f"{row['method']} {row['route']}{'?' + pattern if pattern else ''}")
