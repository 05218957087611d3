"""All rules by id, their thresholds as the settings file has them, and what is said where rules disagree."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from otel_analytics.analyze.rules import caching, keys, load, obstacles, own_cache
from otel_analytics.analyze.rules.model import SEVERITIES, Finding, Limit, Limits, RouteFacts, Rule
from otel_analytics.errors import SettingsError, UsageError

_OF_SECONDS: Final = "share of the seconds of all routes, from 0 to 1"

RULES: Final = (
    Rule(
        "cache-candidate",
        caching.cache_candidate,
        {
            "min_saved_share": Limit(0.01, f"saved, as a {_OF_SECONDS}", largest=1),
            "min_hit_ratio": Limit(0.2, "hits of all requests of the route, from 0 to 1", largest=1),
        },
    ),
    Rule(
        "never-share",
        keys.never_share,
        {
            "min_cases": Limit(10, "requests that show it"),
            "min_contradicted_share": Limit(
                0.01,
                "share of the users' unchanged answers between which another user got a different one",
                largest=1,
            ),
            "min_users": Limit(5, "users with the same answers that are enough to call a copy safe to share"),
        },
    ),
    Rule(
        "irrelevant-parameter",
        keys.irrelevant_parameter,
        {
            "min_comparisons": Limit(100, "pairs of requests that differ in the parameter"),
            "min_equal_share": Limit(0.5, "share of them with the same body, from 0 to 1", largest=1),
            "min_gain": Limit(0.01, "hit ratio gained, from 0 to 1", largest=1),
        },
    ),
    Rule(
        "already-cached",
        own_cache.already_cached,
        {
            "min_hit_ratio": Limit(
                0.2, "hits of all requests, from 0 to 1, from which on it works", largest=1
            ),
            "max_hit_time": Limit(0.5, "a hit's duration, as a share of a miss's"),
        },
    ),
    Rule(
        "cache-regression",
        own_cache.cache_regression,
        {
            "min_gap": Limit(0.15, "predicted hit ratio less the one seen, from 0 to 1", largest=1),
            "min_lost_share": Limit(0.005, f"lost, as a {_OF_SECONDS}", largest=1),
        },
    ),
    Rule(
        "n-plus-one",
        load.n_plus_one,
        {
            "min_queries": Limit(10, "queries of a request"),
            "min_correlation": Limit(
                0.8, "correlation of queries and response size, from -1 to 1", largest=1, smallest=-1
            ),
            "max_deviation": Limit(0.2, "standard deviation of the queries, as a share of their average"),
        },
    ),
    Rule(
        "slow-tail",
        load.slow_tail,
        {
            "min_ratio": Limit(10, "times that the p99 is the p50"),
            "min_p99_ms": Limit(500, "p99 in milliseconds"),
            "min_requests": Limit(1_000, "sampled requests"),
        },
    ),
    Rule(
        "error-prone",
        obstacles.error_prone,
        {
            "max_server_error_share": Limit(0.02, "share of the requests, from 0 to 1", largest=1),
            "max_client_error_share": Limit(0.2, "share of the requests, from 0 to 1", largest=1),
        },
    ),
    Rule(
        "oversized-response",
        load.oversized_response,
        {"min_bytes": Limit(1_000_000, "bytes of a response at the 95th percentile")},
    ),
    Rule(
        "traffic-spike",
        load.traffic_spike,
        {
            "min_times": Limit(3, "times the average hour"),
            "min_requests": Limit(50, "requests in the hour"),
            "min_days": Limit(3, "days with the hour"),
        },
    ),
    Rule(
        "streaming",
        obstacles.streaming,
        {
            "min_duration_ms": Limit(1_000, "median duration in milliseconds"),
            "max_first_byte_share": Limit(0.1, "time to the first byte, as a share of the duration"),
        },
    ),
    Rule(
        "unsafe-method",
        obstacles.unsafe_method,
        {"min_share_of_seconds": Limit(0.05, _OF_SECONDS, largest=1)},
    ),
    Rule(
        "cold-data",
        obstacles.cold_data,
        {"min_share_of_seconds": Limit(0.01, _OF_SECONDS, largest=1)},
    ),
    Rule(
        "classic-score",
        obstacles.classic_score,
        {
            "min_requests": Limit(10, "requests an hour"),
            "min_latency_ms": Limit(100, "average p95 in milliseconds"),
            "min_score": Limit(50, "score"),
        },
        enabled=False,
    ),
)
_BY_ID: Final = {rule.id: rule for rule in RULES}
_SILENCED_BY: Final = {
    "cache-candidate": {"streaming", "error-prone"},
    "already-cached": {"cache-regression"},
}
"""Where one of these speaks about the same route and method, the rule is silent."""


class Active(NamedTuple):
    """A rule as it is set.

    Attributes:
        rule: The rule.
        enabled: Whether it is on.
        limits: Its thresholds.
        set_by_file: What of it the settings file sets: `enabled` or thresholds.
    """

    rule: Rule
    enabled: bool
    limits: Limits
    set_by_file: frozenset[str]


def configured(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Active]:
    """The rules by id, in their order.

    Args:
        tables: The setting `rules`: id to a table with `enabled` and thresholds.

    Raises:
        SettingsError: It names a rule or a threshold that does not exist, or a value is of no use.
    """
    for name in tables:
        if name not in _BY_ID:
            raise SettingsError(f"setting rules: {_unknown('rule', name, _BY_ID)}")
    return {rule.id: _active(rule, tables.get(rule.id, {})) for rule in RULES}


def _active(rule: Rule, table: Mapping[str, Any]) -> Active:
    limits = {name: limit.default for name, limit in rule.limits.items()}
    enabled = rule.enabled
    for name, value in table.items():
        where = f"setting rules.{rule.id}"
        if name == "enabled":
            if not isinstance(value, bool):
                raise SettingsError(f"{where}.enabled: must be true or false")
            enabled = value
        elif name not in limits:
            raise SettingsError(f"{where}: {_unknown('threshold', name, [*limits, 'enabled'])}")
        else:
            limits[name] = _checked(value, rule.limits[name], f"{where}.{name}")
    return Active(rule, enabled, limits, frozenset(table))


def _checked(value: Any, limit: Limit, where: str) -> float:
    # NaN fails the comparison, too; math.isfinite would raise on an integer beyond any float.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not limit.smallest <= value <= limit.largest:
        raise SettingsError(f"{where}: must be a number from {limit.smallest:g} to {limit.largest:g}")
    return float(value)


def chosen(active: Mapping[str, Active], ids: Collection[str]) -> set[str]:
    """The rules that speak: those that are on, or those named, which need not be on.

    Raises:
        UsageError: One of them does not exist.
    """
    for name in ids:
        if name not in active:
            raise UsageError(_unknown("rule", name, active))
    return set(ids) or {name for name, each in active.items() if each.enabled}


class Said(NamedTuple):
    """A finding, the rule it is of, and what it is about."""

    rule: str
    route: str
    method: str
    finding: Finding


def findings(
    routes: Iterable[RouteFacts], active: Mapping[str, Active], wanted: Collection[str]
) -> list[Said]:
    """What the rules have to say, what matters most first.

    Args:
        routes: The facts.
        active: All rules, as they are set.
        wanted: The rules that speak; see `chosen`. Others that are on may silence them.
    """
    said: list[Said] = []
    for facts in routes:
        about: dict[str, list[Finding]] = {
            name: list(each.rule.check(facts, each.limits))
            for name, each in active.items()
            if each.enabled or name in wanted
        }
        speaking = {name for name, found in about.items() if found}
        for name in wanted:
            if not speaking & _SILENCED_BY.get(name, set()):
                said += (Said(name, facts.totals.route, facts.totals.method, each) for each in about[name])
    order = list(active)
    return sorted(
        said,
        key=lambda each: (
            SEVERITIES.index(each.finding.severity),
            -each.finding.weight,
            each.route,
            each.method,
            order.index(each.rule),
            each.finding.pattern or "",
        ),
    )


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"unknown {what} {name}; {hint}"
