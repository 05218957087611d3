"""The rules by themselves: what they take for proof, how they are set, what is said where they disagree."""

import re

import pytest

from otel_analytics.analyze.replay import Evidence, History, Outcome
from otel_analytics.analyze.rules import (
    RULES,
    PatternReplay,
    RouteFacts,
    Whole,
    chosen,
    configured,
    findings,
    sharing,
)
from otel_analytics.analyze.rules.model import together
from otel_analytics.analyze.rules.words import number_text, percent_text, size_text, time_text
from otel_analytics.errors import SettingsError, UsageError
from otel_analytics.route_figures import Dependence, RouteSample, RouteTotals
from otel_analytics.settings import ENV_PREFIX, Settings, load

LIMITS = configured({})["never-share"].limits
NOTHING = Dependence(*(0,) * len(Dependence._fields))
SEEN = NOTHING._replace(requests=1_000, senders=50, compared=600, equal=590, equal_senders=50, kept=100)
HISTORY = History(asked_seconds=7 * 86_400, seconds=7 * 86_400, requests=10_000, coverage=1.0)
WHOLE = Whole(HISTORY, seconds=1_000.0, staleness_limit=0.01, min_evidence_requests=100)
EVIDENCE = Evidence(1_000, 1_000, 0, 0, 0, 1_000, 0, 0, 100.0, 1_000, 1_000, 1_000, 1_000, (0, 1))
SAMPLE = RouteSample(
    1_000, 1_000, 100.0, 120.0, 99.0, 1_000.0, 1_000.0, 1_000, 1.0, 0.0, 1.0, None, 0, 0, None, None
)


def outcome(ttl, *, hits=900, stale=0, saved=90.0, **changed):
    found = Outcome(ttl, 1_000, hits, 0, 100, saved, 900, 9_000, hits, stale, hits, 0, 0, 2_000, 100, 90)
    return found._replace(**changed)


def facts(*patterns, shared=None, per_user=None, **changed):
    """A route with a pattern or more, at times to live of 10 and 60 seconds."""
    whole_patterns = patterns or (
        PatternReplay(
            "{}",
            EVIDENCE,
            shared or (outcome(10.0), outcome(60.0)),
            per_user or (outcome(10.0, hits=0, saved=0.0), outcome(60.0, hits=0, saved=0.0)),
        ),
    )
    values = {
        "whole": WHOLE,
        "totals": RouteTotals("/r", "GET", 24, 1_000, 0, 0, 100.0),
        "sample": SAMPLE,
        "users": SEEN,
        "sharing": "same",
        "patterns": whole_patterns,
    }
    return RouteFacts(**{**values, **changed})


def candidates(*routes, **tables):
    active = configured({"cache-candidate": {"min_saved_share": 0.01}, **tables})
    return [said.finding for said in findings(routes, active, {"cache-candidate"})]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "same"),
        ({"requests": 0}, "no bodies"),
        ({"senders": 0, "compared": 0, "equal": 0, "equal_senders": 0}, "no users"),
        ({"senders": 1, "compared": 0, "equal": 0, "equal_senders": 0}, "few users"),
        ({"equal_senders": 4}, "few users"),
        ({"equal": 9, "equal_senders": 9}, "few users"),
        ({"equal": 0, "equal_senders": 0}, "unclear"),
        # One answer that cannot be explained by time is enough to doubt, not enough to accuse.
        ({"returns": 1}, "unclear"),
        ({"returns": 9, "contradicted": 9}, "unclear"),
        ({"returns": 10, "contradicted": 10}, "private"),
        ({"returns": 10, "contradicted": 10, "kept": 1_001}, "unclear"),
        # Where a user's own answers come and go, it is not the user.
        ({"returns": 90, "contradicted": 50, "own_returns": 25}, "unclear"),
        ({"returns": 90, "contradicted": 50, "own_returns": 24}, "private"),
    ],
)
def test_what_proves_that_a_copy_may_be_shared_or_not(changed, verdict):
    assert sharing(SEEN._replace(**changed), LIMITS) == verdict


@pytest.mark.parametrize(
    ("verdict", "key"),
    [
        ("same", "shared"),
        ("no users", "shared, unproven"),
        ("private", "per user"),
        ("unclear", "per user"),
        ("few users", "per user"),
        ("no bodies", "per user"),
    ],
)
def test_a_copy_is_shared_only_where_that_is_proven(verdict, key):
    own = (outcome(10.0, hits=500, saved=40.0), outcome(60.0, hits=500, saved=50.0))
    (found,) = candidates(facts(sharing=verdict, per_user=own))
    assert found.evidence["key"] == key
    assert found.evidence["hits"] == (500 if key == "per user" else 900)
    if verdict == "private":
        assert candidates(facts(sharing=verdict)) == []


def test_the_shortest_time_to_live_that_keeps_nearly_all_is_proposed():
    def ttl(*outcomes):
        return [each.evidence["ttl_seconds"] for each in candidates(facts(shared=outcomes))]

    assert ttl(outcome(10.0, saved=95.0), outcome(60.0, saved=100.0)) == [10]
    assert ttl(outcome(10.0, saved=94.0), outcome(60.0, saved=100.0)) == [60]
    assert ttl(outcome(10.0, saved=60.0), outcome(60.0, saved=100.0, stale=10)) == [10]
    assert ttl(outcome(10.0, saved=60.0), outcome(60.0, saved=100.0, stale=9)) == [60]
    # Unknown staleness is none that is allowed, and a tenth of the history is the most.
    assert ttl(outcome(10.0, saved=60.0), outcome(60.0, saved=100.0, compared=800)) == [10]
    assert ttl(outcome(10.0, compared=0), outcome(60.0, compared=0)) == []
    assert ttl(outcome(10.0, saved=60.0), outcome(86_400.0, saved=100.0)) == [10]


def test_a_saving_that_is_too_small_or_too_little_seen_is_no_finding():
    assert candidates(facts())
    assert candidates(facts(shared=(outcome(60.0, saved=10.0),)))
    assert candidates(facts(shared=(outcome(60.0, saved=9.9),))) == []
    assert candidates(facts(shared=(outcome(60.0, hits=199),))) == []
    assert candidates(facts(shared=(outcome(60.0, requests=99, hits=90),))) == []
    assert candidates(facts(totals=RouteTotals("/r", "POST", 24, 1_000, 0, 0, 100.0))) == []
    # Where half of the requests went past a cache of the application's own, that is judged instead.
    assert candidates(facts(sample=SAMPLE._replace(cache_hits=10, cache_misses=489)))
    assert candidates(facts(sample=SAMPLE._replace(cache_hits=10, cache_misses=490))) == []
    assert candidates(facts(sample=SAMPLE._replace(cache_hits=0, cache_misses=1_000)))


def test_one_time_to_live_for_the_route_unless_patterns_differ():
    def pattern(name, *shared):
        return PatternReplay(name, EVIDENCE, shared, shared)

    steady = pattern('{"q": "a"}', outcome(10.0, saved=50.0), outcome(60.0, saved=100.0))
    likewise = steady._replace(pattern='{"q": "b"}')
    restless = pattern('{"q": "c"}', outcome(10.0, saved=50.0), outcome(60.0, saved=100.0, stale=200))
    (found,) = candidates(facts(steady, likewise))
    assert (found.pattern, found.evidence["ttl_seconds"]) == (None, 60)
    assert (found.evidence["saved_seconds"], found.evidence["memory_bytes"]) == (200, 4_000)
    apart = {each.pattern: each.evidence["ttl_seconds"] for each in candidates(facts(steady, restless))}
    assert apart == {'{"q": "a"}': 60, '{"q": "c"}': 10}
    # However few the stale ones are among all, whoever asks for them would always get them.
    small = pattern('{"q": "d"}', *(outcome(ttl, hits=40, stale=20, saved=0.5) for ttl in (10.0, 60.0)))
    many = [steady._replace(pattern=f'{{"q": "{n}"}}') for n in range(9)]
    assert None not in {each.pattern for each in candidates(facts(*many, small))}


def test_one_rule_silences_another_unless_it_is_off():
    failing = facts(totals=RouteTotals("/r", "GET", 24, 1_000, 0, 100, 100.0))
    active = configured({})
    assert [each.rule for each in findings([failing], active, chosen(active, []))] == [
        "error-prone", "never-share",
    ]  # fmt: skip
    assert candidates(failing) == []
    assert len(candidates(failing, **{"error-prone": {"enabled": False}})) == 1


def test_what_matters_most_comes_first():
    large, small = (
        facts(totals=RouteTotals(route, "GET", 24, 1_000, 0, 0, 100.0), shared=(outcome(60.0, saved=saved),))
        for route, saved in (("/large", 500.0), ("/small", 20.0))
    )
    active = configured({})
    said = findings([small, large], active, chosen(active, []))
    assert [(each.route, each.rule, each.finding.severity) for each in said] == [
        ("/large", "cache-candidate", "high"),
        ("/small", "cache-candidate", "low"),
        ("/large", "never-share", "info"),
        ("/small", "never-share", "info"),
    ]


def test_outcomes_of_patterns_are_added_up():
    one, other = (outcome(10.0), outcome(60.0, stale=3)), (outcome(10.0), outcome(60.0, stale=4))
    assert [each.ttl_seconds for each in together([one, other])] == [10, 60]
    assert together([one, other])[1].stale == 7
    assert together([one, other])[1].requests == 2_000
    assert together([]) == ()


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"slow-tial": {}}, "unknown rule slow-tial; did you mean slow-tail?"),
        ({"xyz": {}}, "unknown rule xyz; there are cache-candidate, never-share"),
        ({"slow-tail": {"min_ration": 1}}, "unknown threshold min_ration; did you mean min_ratio?"),
        ({"slow-tail": {"min_ratio": "ten"}}, "rules.slow-tail.min_ratio: must be a number from 0 to 1e+12"),
        ({"slow-tail": {"min_ratio": True}}, "rules.slow-tail.min_ratio: must be a number"),
        ({"slow-tail": {"min_ratio": float("nan")}}, "rules.slow-tail.min_ratio: must be a number"),
        ({"slow-tail": {"min_ratio": -1}}, "rules.slow-tail.min_ratio: must be a number from 0"),
        ({"slow-tail": {"min_ratio": 10**400}}, "rules.slow-tail.min_ratio: must be a number from 0"),
        ({"cache-candidate": {"min_hit_ratio": 20}}, "min_hit_ratio: must be a number from 0 to 1"),
        ({"already-cached": {"min_hit_ratio": 1.1}}, "min_hit_ratio: must be a number from 0 to 1"),
        ({"n-plus-one": {"min_correlation": -2}}, "min_correlation: must be a number from -1 to 1"),
        ({"slow-tail": {"enabled": 1}}, "rules.slow-tail.enabled: must be true or false"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_and_named(tables, reason):
    with pytest.raises(SettingsError, match=re.escape(reason)):
        configured(tables)


def test_rules_are_set_in_the_file_and_nowhere_else(tmp_path):
    file = tmp_path / "otel-analytics.toml"
    file.write_text("days = 3\n[rules.slow-tail]\nmin_ratio = 20\n[rules.classic-score]\nenabled = true\n")
    settings = load(environ={}, config_file=file)
    assert settings.days == 3
    active = configured(settings.rules)
    assert active["slow-tail"].limits == {"min_ratio": 20, "min_p99_ms": 500, "min_requests": 1_000}
    assert active["slow-tail"].set_by_file == {"min_ratio"}
    assert active["classic-score"].enabled
    assert not configured({})["classic-score"].enabled
    assert Settings().rules == {}
    with pytest.raises(SettingsError, match=r"OTEL_ANALYTICS_RULES: the environment cannot hold a table"):
        load(environ={f"{ENV_PREFIX}RULES": "slow-tail"})
    file.write_text("[rules]\nslow-tail = false\n")
    with pytest.raises(SettingsError, match=r"setting rules: slow-tail must be a table"):
        load(environ={}, config_file=file)
    file.write_text("rules = 1\n")
    with pytest.raises(SettingsError, match=r"setting rules: must be a table"):
        load(environ={}, config_file=file)


def test_rules_that_are_named_speak_even_if_they_are_off():
    active = configured({"slow-tail": {"enabled": False}})
    assert "slow-tail" not in chosen(active, [])
    assert chosen(active, ["slow-tail"]) == {"slow-tail"}
    with pytest.raises(UsageError, match="unknown rule"):
        chosen(active, ["nonsense"])


def test_every_rule_says_what_it_is():
    for rule in RULES:
        assert re.fullmatch(r"[A-Z].*\.", rule.summary), rule.id
        assert len(rule.text) > len(rule.summary)
        assert all(limit.meaning for limit in rule.limits.values())
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_figures_in_sentences():
    assert [time_text(each) for each in (1, 30, 60, 90, 900, 3_600, 86_400)] == [
        "1 second", "30 seconds", "1 minute", "90 seconds", "15 minutes", "1 hour", "1 day",
    ]  # fmt: skip
    assert [percent_text(each) for each in (0, 0.0004, 0.005, 0.5, 0.9995, 1)] == [
        "0 %", "under 0.1 %", "0.5 %", "50 %", "over 99.9 %", "100 %",
    ]  # fmt: skip
    assert [number_text(each) for each in (0, 0.034, 5, 5.55, 12_345.6)] == [
        "0",
        "0.034",
        "5",
        "5.5",
        "12,346",
    ]
    assert [size_text(each) for each in (0, 999, 1_000, 2_500_000)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "2.5 MB",
    ]
