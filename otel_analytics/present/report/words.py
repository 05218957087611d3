"""Figures in words, and the sentences about a row of the replay."""

from typing import Any, Final

from otel_analytics.analyze.replay import MEANINGS
from otel_analytics.present.report.contents import Advised
from otel_analytics.present.report.markup import Html, element, join
from otel_analytics.present.rows import SavingsRow
from otel_analytics.present.simulation import SimulationRow, bytes_text, ttl_text
from otel_analytics.present.tables import percent
from otel_analytics.present.text import params_text, shorten_end

_MOST: Final = 100
"""Characters of parameters, or of a route, that are shown."""
_MINUTE, _HOUR = 60, 3_600
_UNITS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


def name(route: str, method: str, params: dict[str, Any]) -> Html:
    """A pattern: method, route and, where there are some, its parameters."""
    shown = params_text(params) if params else ""
    parts = f"{method} {shorten_end(route, _MOST)}".split("/")
    # A narrow column breaks it after a slash.
    broken = [parts[0], *(child for part in parts[1:] for child in ("/", element("wbr"), part))]
    return join(
        element("code", *broken, class_="route"),
        join(" ", element("code", shorten_end(shown, _MOST), class_="params")) if shown else None,
    )


def plain_name(row: SimulationRow) -> str:
    """The same as text."""
    params = params_text(row.query_params_normalized) if row.query_params_normalized else ""
    return f"{row.method} {shorten_end(row.route, _MOST)} {shorten_end(params, _MOST)}".rstrip()


def duration(seconds: float) -> str:
    """A span of work, such as `27 ms`, `8.1 s`, `12.4 min` or `3.1 h`."""
    if seconds < 1:
        return f"{seconds * 1_000:,.0f} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:,.1f} s"
    return f"{seconds / _MINUTE:,.1f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:,.1f} h"


def copies(*, per_user: bool) -> str:
    """Who shares a copy."""
    return "a copy for each user" if per_user else "one copy for all users"


def long_ttl(seconds: float) -> str:
    """A time to live in words, such as `5 minutes`."""
    short = ttl_text(seconds)
    number, unit = short[:-1], _UNITS[short[-1]]
    return f"{number} {unit}{'' if number == '1' else 's'}"


def memory(number: int) -> str:
    """Bytes, with a space before the unit."""
    shown = bytes_text(number)
    digits = shown.rstrip("kMGTB")
    return f"{digits} {shown[len(digits) :]}"


def stale_percent(row: SavingsRow | SimulationRow) -> str:
    """The share of compared hits that were stale; 0 is said only of none."""
    if not row.compared_hits:
        return "?"
    rounded = round(row.stale_hits / row.compared_hits * 100, 1)
    return f"{rounded:g}" if rounded or not row.stale_hits else "<0.1"


def advice(advised: Advised) -> Html:
    """What to do with a pattern, and what that would have brought."""
    row = advised.best
    saved = f"{duration(row.saved_seconds)} of work"
    if row.saved_queries:
        saved += f" and {row.saved_queries:,} database queries"
    return element(
        "p",
        "Keep answers for ",
        element("strong", long_ttl(row.ttl_seconds)),
        f", {copies(per_user=advised.per_user)}. Of {row.requests:,} requests, {row.hits:,}"
        f" ({percent(row.hit_ratio)} %) would have been answered from the cache, saving ",
        element("strong", saved),
        f" ({percent(row.saved_share_of_seconds)} % of the time they all took). {_staleness(row)}"
        f" It needs {memory(row.peak_memory_bytes)} of memory at most, and takes {percent(row.peak_relief)} %"
        " of the requests off the busiest hour.",
    )


def notes(row: SimulationRow) -> list[str]:
    """What to bear in mind with it."""
    found = []
    if row.other_user_hits:
        differed = f"{row.other_user_stale_hits:,}" if row.other_user_stale_hits else "none"
        found.append(
            f"{row.other_user_hits:,} of the hits would have been copies made for another user; {differed} of"
            " these differed from the answer that the user got."
        )
    if row.masked_error_hits:
        found.append(f"{row.masked_error_hits:,} hits would have hidden an error (4xx or 5xx).")
    return found + [_caveat(each) for each in row.caveats]


def _staleness(row: SimulationRow) -> str:
    if not row.compared_hits:
        return "Whether the copies were still right is unknown: no body was hashed."
    of = "" if row.compared_hits == row.hits else f" of the {row.compared_hits:,} that could be compared"
    if not row.stale_hits:
        return f"None{of} would have been stale."
    return f"{row.stale_hits:,}{of} ({stale_percent(row)} %) would have been stale."


def _caveat(caveat: str) -> str:
    known: dict[str, str] = {str(key): meaning for key, meaning in MEANINGS.items()}
    meaning = known[caveat]
    return f"{meaning[0].upper()}{meaning[1:]}."
