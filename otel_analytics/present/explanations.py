"""Why a pattern stands where it does, in sentences: the figures in the formulas, what would change it."""

from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from rich.text import Text

from otel_analytics.analyze.absolute import (
    MOST_USER_POINTS,
    MS_PER_POINT,
    REQUEST_POINTS,
    USERS_PER_POINT,
    Scored,
)
from otel_analytics.analyze.relative import LATENCY_WEIGHT, POPULARITY_WEIGHT, USERS_WEIGHT, Placed
from otel_analytics.analyze.savings import (
    ENOUGH_HITS,
    Obstacle,
    Option,
    Pattern,
    Saving,
    Terms,
    most_saving,
    obstacle,
    obstacle_of_all,
)
from otel_analytics.figures import PatternFigures
from otel_analytics.present.rows import params_of
from otel_analytics.present.simulation import bytes_text, ttl_text
from otel_analytics.present.tables import console_for
from otel_analytics.present.text import harmless, params_text

_TWO_DIGITS_BELOW: Final = 0.1


def title(method: str, route: str, pattern: str) -> str:
    """A pattern by its name."""
    params = params_of(pattern)
    return f"{harmless(method)} {harmless(route)}{f' with {params_text(params)}' if params else ''}"


def print_explanation(heading: str, sentences: Sequence[str], file: TextIO) -> None:
    """A heading and the sentences under it, broken between words where a terminal is too narrow."""
    console = console_for(file)
    console.print(Text(heading, style="bold"), soft_wrap=not console.is_terminal)
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)


def absolute_sentence(
    figures: PatternFigures,
    ranked: Sequence[Scored],
    *,
    min_requests: float,
    min_latency: float,
    threshold: float,
) -> str:
    """The place in the absolute ranking.

    Args:
        figures: Of the pattern.
        ranked: The whole ranking.
        min_requests: The threshold, requests an hour.
        min_latency: The threshold, milliseconds of p95.
        threshold: The score above which a caching layer caches.
    """
    requests, p95, users = figures.avg_hourly_requests, figures.avg_p95_ms, figures.avg_unique_users
    missing = []
    if requests < min_requests:
        missing.append(f"{requests:,.1f} requests an hour are below {min_requests:g} (setting min_requests)")
    if p95 < min_latency:
        missing.append(f"a p95 of {p95:,.1f} ms is below {min_latency:g} ms (setting min_latency)")
    place = next((at for at, each in enumerate(ranked) if each.figures == figures), None)
    if place is None:
        return f"Absolute: not ranked, as {' and '.join(missing)}."
    scored = ranked[place]
    capped = f" ({MOST_USER_POINTS} at most)" if users > MOST_USER_POINTS * USERS_PER_POINT else ""
    formula = (
        f"{requests:,.1f} requests an hour x {REQUEST_POINTS} + {p95:,.1f} ms of p95 / {MS_PER_POINT}"
        f" + {users:,.1f} users an hour / {USERS_PER_POINT}{capped}"
    )
    verb = "is" if scored.should_cache else "is not"
    return (
        f"Absolute: place {place + 1:,} of {len(ranked):,}, score {scored.score:,.1f} = {formula}."
        f" That {verb} above {threshold:g} (setting cache_score_threshold).{_next_score(place, ranked)}"
    )


def _next_score(place: int, ranked: Sequence[Scored]) -> str:
    if place == 0:
        return " Nothing stands before it."
    ahead = ranked[place - 1]
    more = ahead.score - ranked[place].score
    return (
        f" {_name(ahead.figures)} stands before it with {ahead.score:,.1f};"
        f" {more / REQUEST_POINTS:,.1f} more requests an hour would reach that."
    )


def _name(figures: PatternFigures) -> str:
    return title(figures.method, figures.route, figures.pattern)


def relative_sentence(figures: PatternFigures, ranked: Sequence[Placed]) -> str:
    """The place in the relative ranking, which holds every candidate."""
    place = next(at for at, each in enumerate(ranked) if each.figures == figures)
    placed = ranked[place]
    shares = (
        (LATENCY_WEIGHT, placed.latency, "latency"),
        (POPULARITY_WEIGHT, placed.popularity, "requests"),
        (USERS_WEIGHT, placed.users, "users"),
    )
    formula = " + ".join(f"{weight:g} x {share:.1f}" for weight, share, _ in shares)
    missing, by = max((weight * (100 - share), name) for weight, share, name in shares)
    change = f" Most of what is missing to 100 is for its {by}: {missing:.1f}." if missing else ""
    return (
        f"Relative: place {place + 1:,} of {len(ranked):,}, priority {placed.priority:.1f} = {formula}: of"
        f" all patterns {placed.latency:.1f} % have no higher p95, {placed.popularity:.1f} % no more"
        f" requests, {placed.users:.1f} % no more users.{change}"
    )


def savings_sentence(found: Pattern, ranked: Sequence[Saving], terms: Terms) -> str:
    """The place in the ranking by savings, or why there is none."""
    place = next((at for at, each in enumerate(ranked) if each.pattern.name == found.name), None)
    if place is None:
        return f"Savings: not ranked. {_why_not(found, terms)}"
    saving, hours = ranked[place], terms.hours
    outcome = saving.option.outcome
    found_for = (
        f"Savings: place {place + 1:,} of {len(ranked):,}, {outcome.saved_seconds / hours:,.2f} s an hour."
        f" With a time to live of {_option(saving.option)}, {outcome.hits:,} of {outcome.requests:,} requests"
        f" would have been hits ({_percent(outcome.hit_ratio)}) and saved {outcome.saved_seconds:,.1f} s and"
        f" {outcome.saved_queries:,} queries in {hours:,.1f} hours, with {bytes_text(outcome.peak_bytes)} of"
        " memory at most."
    )
    stale = (
        f"Of {outcome.compared:,} hits that could be compared {outcome.stale:,} were stale"
        f" ({_percent(outcome.stale / outcome.compared)}; the limit is {terms.staleness_limit * 100:g} %,"
        " setting staleness_limit)."
    )
    return " ".join([found_for, stale, *_users(saving), *_other(saving, terms)])


def _users(saving: Saving) -> Iterator[str]:
    """Who may share a copy, and what that rests on."""
    outcome = saving.option.outcome
    if saving.option.per_user:
        shared = max(
            (each.outcome for each in saving.pattern.options if not each.per_user),
            key=lambda each: each.foreign,
        )
        if shared.foreign_stale:
            yield (
                f"It is not shared: of {shared.foreign:,} hits on the copy of another user"
                f" {shared.foreign_stale:,} differed."
            )
    elif outcome.foreign:
        yield (
            f"It can be shared: of {outcome.foreign:,} hits on the copy of another user"
            f" {outcome.foreign_stale:,} differed."
        )
    else:
        yield "That it can be shared rests on the bodies alone, as no user is known."


def _other(saving: Saving, terms: Terms) -> Iterator[str]:
    """What stands against the option that would save more."""
    more = most_saving(saving.pattern.options)
    if more.outcome.saved_seconds <= saving.option.outcome.saved_seconds:
        yield "No other time to live or key would save more."
        return
    reason = obstacle(more, saving.pattern.evidence, terms)
    if reason is not None:
        yield (
            f"A time to live of {_option(more)} would save"
            f" {more.outcome.saved_seconds / terms.hours:,.2f} s an hour, but"
            f" {_against(reason, more, terms)}."
        )


def _why_not(found: Pattern, terms: Terms) -> str:
    match obstacle_of_all(found, terms):
        case "unsafe method":
            return "Only answers to GET and HEAD are cached."
        case "few requests":
            return (
                f"{found.evidence.requests:,} requests are fewer than {terms.min_evidence_requests:,}"
                " (setting min_evidence_requests)."
            )
        case _:
            pass
    gains = [each for each in found.options if each.outcome.saved_seconds > 0]
    if not gains:
        return f"At no time to live up to {_longest_ttl(found)} would a hit have saved time."
    sentences = []
    for per_user in (False, True):
        # Short times to live often have too few hits, and longer ones another obstacle.
        reasons: dict[Obstacle, Option] = {}
        for each in gains:
            reason = obstacle(each, found.evidence, terms)
            if each.per_user == per_user and reason is not None:
                reasons.setdefault(reason, each)
        sentences += [f"With {_option(each)}, {_against(why, each, terms)}." for why, each in reasons.items()]
    return " ".join(sentences)


def _against(reason: Obstacle, option: Option, terms: Terms) -> str:
    """What stands against an option, with its figures."""
    outcome = option.outcome
    match reason:
        case "stale":
            return (
                f"{_percent(outcome.stale / outcome.compared)} of its hits would have been stale;"
                f" the limit is {terms.staleness_limit * 100:g} %"
            )
        case "differs between users":
            seen = "users were seen to keep a body while others got another one; " if option.personal else ""
            return (
                f"{seen}{outcome.foreign_stale:,} of {outcome.foreign:,} hits on the copy of another user"
                " differed from what that user got"
            )
        case "few hits":
            return f"{outcome.compared:,} compared hits are too few to judge; {ENOUGH_HITS} are needed"
        case "users not compared":
            return (
                f"hits on the copy of another user were {outcome.foreign:,}; {ENOUGH_HITS} are needed to tell"
                " that it may be shared"
            )
        case "bodies unknown":
            return f"only {outcome.compared:,} of {outcome.hits:,} hits could be compared with their copy"
        case _:
            return f"the history is only {terms.history.seconds / 3_600:,.1f} hours long"


def _option(option: Option) -> str:
    key = "a key for each user" if option.per_user else "a key that all users share"
    return f"{ttl_text(option.outcome.ttl_seconds)} and {key}"


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < _TWO_DIGITS_BELOW else f"{share * 100:.1f} %"


def _longest_ttl(found: Pattern) -> str:
    return ttl_text(found.options[-1].outcome.ttl_seconds)
