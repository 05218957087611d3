"""The sections of the page, each from its part of the contents."""

import math
from collections.abc import Sequence
from typing import Final

from otel_analytics.analyze.replay import MEANINGS
from otel_analytics.present.advice import AdviceRow
from otel_analytics.present.question_rows import ErrorRow, SlowRow
from otel_analytics.present.report import words
from otel_analytics.present.report.charts import Line, curves, legend_sample, sparkline
from otel_analytics.present.report.contents import Advised, Contents
from otel_analytics.present.report.markup import Child, Html, element, join
from otel_analytics.present.report.tables import Column, heat_map, hidden, table
from otel_analytics.present.rows import AbsoluteRow, RelativeRow, SavingsRow
from otel_analytics.present.simulation import SimulationRow, ttl_text
from otel_analytics.present.tables import percent
from otel_analytics.present.text import compact

FIRST: Final = 5
"""Patterns that are advised in words."""
CURVES: Final = 6
"""Patterns that are shown at every time to live."""
MOST_FINDINGS: Final = 50
"""Each with its statement; more of them would be a page of another kind."""
_INFO: Final = "info"
_NONE: Final = "\N{EN DASH}"


def first(contents: Contents) -> Html:
    """What to cache first, in plain sentences, and what not although it looks worth it."""
    items = [
        element(
            "li",
            element("h3", _name(each.best)),
            words.advice(each),
            _notes(words.notes(each.best)),
            element(
                "p",
                element(
                    "a",
                    "Other times to live",
                    hidden(f" for {words.plain_name(each.best)}"),
                    href=f"#curve-{place}",
                ),
            ),
        )
        for place, each in enumerate(contents.advised[:FIRST], start=1)
    ]
    limit = f"{contents.rules.staleness_limit * 100:g} %"
    intro = (
        "These would have saved most time, by a replay of the recorded requests. Each is shown in the way"
        f" that saves most while at most {limit} of the hits that can be checked are stale, also among those"
        " that get a copy made for another user."
    )
    return join(
        join(element("p", intro), element("ol", *items, class_="advice")) if items else None,
        _unpromising(contents),
        _basis(contents.replay_basis if items else contents.savings.remark),
    )


def by_savings(contents: Contents) -> Html:
    """The ranking by what a cache would have saved."""
    rows = contents.savings.rows
    columns = [
        *_names(rows),
        Column("Saved an hour", [words.duration(row.saved_seconds_per_hour) for row in rows]),
        Column("Time to live", [ttl_text(row.ttl_seconds) for row in rows]),
        Column("Copies", [row.cache_key for row in rows], "text"),
        Column("Hits, %", [percent(row.hit_ratio) for row in rows]),
        Column("Stale, %", [words.stale_percent(row) for row in rows]),
        Column("Queries saved an hour", [compact(row.saved_queries_per_hour) for row in rows]),
        Column("Memory", [words.memory(row.peak_memory_bytes) for row in rows]),
        Column("Notes", [", ".join(row.caveats) or _NONE for row in rows], "text"),
    ]
    return join(
        element(
            "p",
            "What a cache gives back: the time that hits would have saved in an hour of the history, each"
            " pattern cached in its best way within the limits.",
        ),
        table("savings", "By time saved, most first", columns) if rows else None,
        _basis(contents.savings.remark),
    )


def absolute(contents: Contents) -> Html:
    """The ranking by traffic and latency."""
    rows, rules = contents.absolute.rows, contents.rules
    columns = [
        *_names(rows),
        Column("Requests an hour", [compact(row.avg_hourly_requests) for row in rows]),
        Column("p95, ms", [compact(row.avg_p95_latency_ms) for row in rows]),
        Column("Users an hour", [compact(row.avg_unique_users) for row in rows]),
        Column("Score", [f"{row.cache_priority_score:,.1f}" for row in rows]),
        Column("2xx, %", [percent(row.success_rate) for row in rows]),
        Column(
            f"Above {rules.cache_score_threshold:g}", ["yes" if row.should_cache else "no" for row in rows]
        ),
    ]
    return join(
        element(
            "p",
            f"What has at least {rules.min_requests:g} requests an hour and a p95 of at least"
            f" {rules.min_latency:g} ms, both averaged over the hours with traffic. Score: requests an hour"
            " \N{MULTIPLICATION SIGN} 10 + p95 in ms / 100 + users an hour / 10, the last 10 at most. It says"
            " where the time goes, not what a cache would give back.",
        ),
        table("absolute", "By traffic and latency, highest score first", columns) if rows else None,
        _basis(contents.absolute.remark),
    )


def relative(contents: Contents) -> Html:
    """The ranking against all others."""
    rows = contents.relative.rows
    columns = [
        *_names(rows),
        Column("Requests an hour", [compact(row.avg_hourly_requests) for row in rows]),
        Column("p95, ms", [compact(row.avg_p95_latency_ms) for row in rows]),
        Column("Requests, percentile", [str(math.floor(row.popularity_percentile)) for row in rows]),
        Column("p95, percentile", [str(math.floor(row.latency_percentile)) for row in rows]),
        Column("Users, percentile", [str(math.floor(row.user_percentile)) for row in rows]),
        Column("Priority", [f"{row.priority_score:.1f}" for row in rows]),
        Column("2xx, %", [percent(row.success_rate) for row in rows]),
    ]
    return join(
        element(
            "p",
            "Every route and parameter pattern against all the others, without thresholds, so that what is"
            " slow surfaces though few ask for it. A percentile is the share of all patterns with no more"
            " than this one. Priority: 40 % latency, 40 % requests, 20 % users.",
        ),
        table("relative", "Against all others, highest priority first", columns) if rows else None,
        _basis(contents.relative.remark),
    )


def savings(contents: Contents) -> Html:
    """What each time to live would save, and how much of it would be stale."""
    shown = contents.advised[:CURVES]
    if not shown:
        return _basis(contents.savings.remark)
    legend = element(
        "ul",
        element("li", legend_sample("saved"), "time saved, of the time that all its requests took"),
        element("li", legend_sample("stale"), "stale, of the hits that can be checked"),
        class_="legend",
    )
    used = {caveat for each in shown for row in each.ladder for caveat in row.caveats}
    meanings = [f"{caveat}: {meaning}." for caveat, meaning in MEANINGS.items() if caveat in used]
    intro = (
        "The same requests, replayed through an unlimited cache at ten times to live. Longer ones save more"
        " and go stale more often; the dotted line marks the one that saves most within the limits."
    )
    return join(
        element("p", intro),
        legend,
        element("div", *(_curves(*each) for each in enumerate(shown, start=1)), class_="charts"),
        join(element("h3", "What the notes mean"), _notes(meanings)),
        _basis(contents.replay_basis),
    )


def findings(contents: Contents) -> Html:
    """What the rules found; what is for information only is folded away."""
    rows = contents.findings.rows
    shown = [row for row in rows if row.severity != _INFO]
    folded = [row for row in rows if row.severity == _INFO]
    return join(
        _findings(shown),
        element("details", element("summary", f"{len(folded):,} more for information"), _findings(folded))
        if folded
        else None,
        _basis(contents.findings.remark),
    )


def week(contents: Contents) -> Html:
    """The traffic by weekday and hour."""
    rows = contents.week.rows
    return join(heat_map("week", rows) if rows else None, _basis(contents.week.remark))


def slow(contents: Contents) -> Html:
    """The slowest routes."""
    rows = contents.slow.rows
    columns = [
        *_routes(rows),
        Column("Requests", [f"{row.total_requests:,}" for row in rows]),
        Column("Median, ms", [_figure(row.p50_latency_ms) for row in rows]),
        Column("p95, ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("p99, ms", [_figure(row.p99_latency_ms) for row in rows]),
        Column("All time, %", [percent(row.share_of_seconds) for row in rows]),
        Column("Mean, over time", [_course(course) for course in contents.courses]),
    ]
    return join(
        table("slow", "Slowest first, by the p95 of all requests", columns) if rows else None,
        _basis(contents.slow.remark),
    )


def errors(contents: Contents) -> Html:
    """The routes that fail."""
    rows = contents.errors.rows
    columns = [
        *_routes(rows),
        Column("Requests", [f"{row.total_requests:,}" for row in rows]),
        Column("5xx", [f"{row.server_errors:,}" for row in rows]),
        Column("5xx, %", [percent(row.server_error_rate) for row in rows]),
        Column("4xx, %", [percent(row.client_error_rate) for row in rows]),
        Column("Last 5xx, UTC", [_hour(row.last_failing_hour) for row in rows], "text"),
        Column("Kinds of 5xx", [_kinds(row) for row in rows], "text"),
    ]
    return join(
        table("errors", "Most server errors first", columns) if rows else None, _basis(contents.errors.remark)
    )


def reading(contents: Contents) -> Html:
    """How to read the page, and what its figures are."""
    latency = f"{contents.rules.cache_latency_ms:g} ms"
    definitions = {
        "Pattern": "A route, a method, and the parameters that make a difference. Parameters such as page and"
        " cursor are left out; what varies in the path is left open, as in {id}.",
        "p95": "95 of 100 requests take no longer. In the rankings, the average of the p95s of the hours with"
        " traffic; among slow routes, that of all requests, within 2 %.",
        "Hit": "A request that the replayed cache would have answered. The key is the path and all parameters"
        " as sent; only GET and HEAD, only answers 2xx are kept.",
        "Time saved": f"What the hits took in the application, less {latency} each for the cache. It is time"
        " of recorded requests, added up; nothing is extrapolated.",
        "Stale": "A hit whose real answer had another body than the copy, by the hashes of the two. Hits"
        " without a hash on both sides cannot be checked and do not count.",
        "Memory": "The most that live entries would have taken at any moment.",
        "Busiest hour": "Of the pattern. A cache takes the hits in it off the application.",
        "Coverage": "The share of all events that reached the stream. The others were dropped by the"
        " applications, and are in no figure of this page.",
    }
    return join(
        element(
            "p",
            "Start with the first section: it rests on what a cache would have done with the very requests"
            " that came. The rankings by traffic say where the time goes and who waits, not what a cache"
            " would give back. All times are UTC. Each section ends with what it rests on.",
        ),
        element(
            "p",
            "The replay knows the past only. A time to live that was right last week may be wrong after the"
            " next change of the application; look again then.",
        ),
        element(
            "dl",
            *(join(element("dt", term), element("dd", meaning)) for term, meaning in definitions.items()),
        ),
    )


def _findings(rows: Sequence[AdviceRow]) -> Html | None:
    if not rows:
        return None
    items = (
        element(
            "li",
            element("h3", element("span", row.severity, class_=f"severity {row.severity}"), f" {row.rule}"),
            element("p", words.name(row.route, row.method, row.query_params_normalized or {})),
            element("p", row.finding),
            element("p", row.advice, class_="advised"),
            element(
                "details",
                element(
                    "summary", "The query that shows it", hidden(f": {row.rule}, {row.method} {row.route}")
                ),
                # It can be focused, so that it can be scrolled without a mouse.
                element("pre", element("code", f"{row.sql};"), tabindex=0),
            ),
        )
        for row in rows[:MOST_FINDINGS]
    )
    more = f"{len(rows) - MOST_FINDINGS:,} more are left out here; see: otel-analytics advise --all"
    return join(
        element("ul", *items, class_="findings"),
        element("p", more) if len(rows) > MOST_FINDINGS else None,
    )


def _unpromising(contents: Contents) -> Html | None:
    if not contents.unpromising:
        return None
    items = (element("li", _name(each.row), element("p", each.why)) for each in contents.unpromising)
    return join(
        element("h3", "High in the ranking by traffic, but little to gain"),
        element("ul", *items, class_="plain"),
    )


def _curves(place: int, advised: Advised) -> Html:
    identity = f"curve-{place}"
    best, rows = advised.best, advised.ladder
    marked = next(at for at, row in enumerate(rows) if row.ttl_seconds == best.ttl_seconds)
    described = "; ".join(
        f"{ttl_text(row.ttl_seconds)}: {percent(row.saved_share_of_seconds)} % saved,"
        f" {words.stale_percent(row)} % stale"
        for row in rows
    )
    columns = [
        Column("Time to live", [ttl_text(row.ttl_seconds) for row in rows], "name"),
        Column("Hits, %", [percent(row.hit_ratio) for row in rows]),
        Column("Saved", [words.duration(row.saved_seconds) for row in rows]),
        Column("Queries", [f"{row.saved_queries:,}" for row in rows]),
        Column("Stale, %", [words.stale_percent(row) for row in rows]),
        Column("Memory", [words.memory(row.peak_memory_bytes) for row in rows]),
        Column("Off the peak, %", [percent(row.peak_relief) for row in rows]),
        Column("Notes", [", ".join(row.caveats) or _NONE for row in rows], "text"),
    ]
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", _name(best), id=f"{identity}-name"),
            element("p", f"{best.requests:,} requests, {words.copies(per_user=advised.per_user)}"),
            element(
                "p",
                f"Best: {words.long_ttl(best.ttl_seconds)}, saves {words.duration(best.saved_seconds)},"
                f" {words.stale_percent(best)} % stale",
            ),
        ),
        curves(
            [ttl_text(row.ttl_seconds) for row in rows],
            [
                Line("stale", [row.staleness for row in rows]),
                Line("saved", [row.saved_share_of_seconds for row in rows]),
            ],
            marked=marked,
            label_id=f"{identity}-name",
            description=described,
        ),
        element(
            "details",
            element("summary", "The figures", hidden(f" of {words.plain_name(best)}")),
            table(identity, f"{words.plain_name(best)}, by time to live", columns),
        ),
        id=identity,
        tabindex=-1,
    )


def _name(row: AbsoluteRow | RelativeRow | SavingsRow | SimulationRow) -> Html:
    return words.name(row.route, row.method, row.query_params_normalized)


def _names(rows: Sequence[AbsoluteRow] | Sequence[RelativeRow] | Sequence[SavingsRow]) -> list[Column]:
    return [
        Column("#", [str(place) for place, _ in enumerate(rows, start=1)]),
        Column("Route", [_name(row) for row in rows], "name"),
    ]


def _routes(rows: Sequence[SlowRow] | Sequence[ErrorRow]) -> list[Column]:
    return [Column("Route", [words.name(row.route, row.method, {}) for row in rows], "name")]


def _basis(remark: str) -> Html:
    return element("p", remark, class_="basis")


def _notes(found: Sequence[str]) -> Html | None:
    return element("ul", *(element("li", each) for each in found), class_="notes") if found else None


def _course(course: Sequence[float | None]) -> Child:
    known = [value for value in course if value is not None]
    if not known:
        return _NONE
    return sparkline(
        course, f"from {compact(known[0])} to {compact(known[-1])} ms, most {compact(max(known))} ms"
    )


def _figure(value: float | None) -> str:
    return _NONE if value is None else compact(value)


def _hour(moment: str | None) -> str:
    return _NONE if moment is None else f"{moment[:10]} {moment[11:16]}"


def _kinds(row: ErrorRow) -> str:
    return ", ".join(f"{each['error_type']} ({each['requests']:,})" for each in row.error_types) or _NONE
