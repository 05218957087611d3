"""The formulas, against values worked out by hand."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.analyze import absolute, relative
from otel_analytics.analyze.candidates import candidates, mostly_fails
from otel_analytics.analyze.histogram import GROWTH, percentile_ms
from otel_analytics.analyze.pages import Page, first_pages
from otel_analytics.figures import PatternFigures, RequestForm

OVERFLOW = '{"otel_analytics.overflow": true}'
NUMBERS = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


def figures(route="/a", *, requests=20.0, p95=200.0, users=5.0, method="GET", pattern="{}"):
    return PatternFigures(
        route=route,
        method=method,
        pattern=pattern,
        active_hours=4,
        total_requests=int(requests * 4),
        successful_requests=int(requests * 4),
        failed_requests=0,
        avg_hourly_requests=requests,
        avg_unique_users=users,
        avg_p95_ms=p95,
        avg_p99_ms=p95 * 2,
    )


def test_what_mostly_fails():
    of_80 = figures(requests=20.0)
    assert not mostly_fails(of_80)
    assert not mostly_fails(of_80._replace(failed_requests=40))
    assert mostly_fails(of_80._replace(failed_requests=41))


def ranked(*candidates, min_requests=10.0, min_latency=100.0, threshold=50.0):
    return absolute.rank(
        candidates, min_requests=min_requests, min_latency=min_latency, cache_score_threshold=threshold
    )


@pytest.mark.parametrize(
    ("requests", "p95", "users", "score"),
    [
        (20, 200, 5, 200 + 2 + 0.5),
        (12.5, 1_234, 0, 125 + 12.34),
        (10, 100, 99.9, 100 + 1 + 9.99),
        (10, 100, 100, 100 + 1 + 10),
        (10, 100, 12_345, 100 + 1 + 10),  # users add 10 at most
        (0, 0, 0, 0),
    ],
)
def test_the_score_by_hand(requests, p95, users, score):
    assert absolute.score(figures(requests=requests, p95=p95, users=users)) == pytest.approx(score)


def test_thresholds_are_inclusive():
    kept = ranked(
        figures("/edge", requests=10, p95=100),
        figures("/rare", requests=9.999, p95=5_000),
        figures("/quick", requests=5_000, p95=99.999),
    )
    assert [each.figures.route for each in kept] == ["/edge"]


def test_highest_first_and_equals_by_name():
    kept = ranked(
        figures("/b"),
        figures("/a", method="POST"),
        figures("/a", pattern='{"q": "2"}'),
        figures("/a", pattern='{"q": "1"}'),
        figures("/z", requests=21),
    )
    assert [(each.figures.route, each.figures.method, each.figures.pattern) for each in kept] == [
        ("/z", "GET", "{}"),
        ("/a", "GET", '{"q": "1"}'),
        ("/a", "GET", '{"q": "2"}'),
        ("/a", "POST", "{}"),
        ("/b", "GET", "{}"),
    ]


def test_only_a_score_above_the_threshold_is_for_the_cache():
    at, above = figures("/at", requests=49, p95=100, users=90), figures("/above", requests=50)
    kept = ranked(at, above, threshold=500)
    assert [(each.figures.route, each.score, each.should_cache) for each in kept] == [
        ("/above", 502.5, True),
        ("/at", 500.0, False),
    ]


def test_one_group_alone_is_at_the_top():
    (alone,) = relative.rank([figures(requests=0.1, p95=0, users=0)])
    assert (alone.popularity, alone.latency, alone.users, alone.priority) == pytest.approx((100,) * 4)


def test_nothing_to_compare_is_no_ranking():
    assert relative.rank([]) == []


def test_the_priority_by_hand():
    rows = relative.rank(
        [
            figures("/busy", requests=1_000, p95=20, users=50),
            figures("/slow", requests=1, p95=9_000, users=50),
            figures("/both", requests=500, p95=300, users=10),
            figures("/none", requests=1, p95=20, users=10),
        ]
    )
    # Ties share the higher rank: two of four have no more than 20 ms, so both are at 50.
    by_hand = {
        "/busy": (100, 50, 100, 0.4 * 50 + 0.4 * 100 + 0.2 * 100),
        "/slow": (50, 100, 100, 0.4 * 100 + 0.4 * 50 + 0.2 * 100),
        "/both": (75, 75, 50, 0.4 * 75 + 0.4 * 75 + 0.2 * 50),
        "/none": (50, 50, 50, 50),
    }
    assert [each.figures.route for each in rows] == ["/busy", "/slow", "/both", "/none"]
    for each in rows:
        found = (each.popularity, each.latency, each.users, each.priority)
        assert found == pytest.approx(by_hand[each.figures.route])


def test_equals_by_name_though_their_priorities_come_out_of_different_sums():
    rows = relative.rank(
        [
            figures("/a", requests=30, p95=1, users=1),  # 0.4 * 33.3 + 0.4 * 100 + 0.2 * 33.3
            figures("/b", requests=10, p95=2, users=3),  # 0.4 * 66.7 + 0.4 * 33.3 + 0.2 * 100
            figures("/c", requests=20, p95=3, users=2),
        ]
    )
    assert [each.figures.route for each in rows] == ["/c", "/a", "/b"]
    assert [each.priority for each in rows[1:]] == [60, 60]


@given(NUMBERS)
def test_a_percentile_is_the_share_of_values_not_greater(values):
    for value, percentile in zip(values, relative.percentiles(values), strict=True):
        share = sum(other <= value for other in values) / len(values) * 100
        assert percentile == pytest.approx(share)


@given(NUMBERS, st.randoms())
def test_percentiles_do_not_depend_on_order(values, chance):
    before = dict(zip(values, relative.percentiles(values), strict=True))
    chance.shuffle(values)
    assert dict(zip(values, relative.percentiles(values), strict=True)) == before


@given(NUMBERS)
def test_the_greatest_is_at_100_and_more_is_never_less(values):
    pairs = sorted(zip(values, relative.percentiles(values), strict=True))
    assert pairs[-1][1] == 100
    assert [percentile for _, percentile in pairs] == sorted(percentile for _, percentile in pairs)


@given(st.randoms())
def test_a_ranking_does_not_depend_on_order(chance):
    groups = [
        figures(route, requests=requests, p95=p95, users=0)
        for route in "cab"
        for requests, p95 in ((10, 100), (20, 100))
    ]
    before = ranked(*groups), relative.rank(groups)
    chance.shuffle(groups)
    assert (ranked(*groups), relative.rank(groups)) == before


def test_what_is_no_candidate_is_counted():
    found = candidates(
        [
            figures("/a", requests=1),
            figures("(unmatched)", requests=2),
            figures("(unmatched)", requests=4, pattern=OVERFLOW),
            figures("/a", requests=8, pattern=OVERFLOW),
            # Sent by a client, so its value is text.
            figures("/a", requests=16, pattern='{"otel_analytics.overflow": "true"}'),
        ]
    )
    assert [each.avg_hourly_requests for each in found.figures] == [1, 16]
    assert (found.requests, found.unmatched_requests, found.overflow_requests) == (4 * 17, 4 * 6, 4 * 8)


def bucket(milliseconds):
    return math.ceil(math.log(max(milliseconds, 0.001)) / math.log(GROWTH))


def histogram(durations):
    merged = {}
    for duration in durations:
        merged[bucket(duration)] = merged.get(bucket(duration), 0) + 1
    return merged


@pytest.mark.parametrize("count", [2, 3, 7, 100, 5_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_merged_percentile_is_within_two_percent(count, seed):
    chance = random.Random(seed)
    durations = [chance.lognormvariate(4, 2) for _ in range(count)]
    exact = statistics.quantiles(durations, n=100, method="inclusive")
    merged = histogram(durations)
    for percent in (1, 50, 95, 99):
        assert percentile_ms(merged, percent / 100) == pytest.approx(exact[percent - 1], rel=0.02 + 1e-9)


def test_percentiles_of_little():
    assert percentile_ms({}, 0.95) is None
    assert percentile_ms({bucket(100): 1}, 0.95) == pytest.approx(100, rel=0.02)
    # Between the two, as percentile_cont has it.
    assert percentile_ms({bucket(100): 1, bucket(200): 1}, 0.95) == pytest.approx(195, rel=0.02)


def form(requests, **varying):
    return RequestForm("/a", "GET", "{}", varying, requests)


def test_the_first_pages_are_those_with_the_smallest_number():
    forms = [form(30, page="3"), form(50), form(20, page="1"), form(40, page="2"), form(60, page="10")]
    assert first_pages(forms, 1) == [Page({}, 0.25), Page({"page": "1"}, 0.1)]
    assert first_pages(forms, 2) == [*first_pages(forms, 1), Page({"page": "2"}, 0.2)]
    assert first_pages(forms, 99)[-1] == Page({"page": "10"}, 0.3)


def test_pages_may_begin_at_0_or_be_offsets():
    assert first_pages([form(1), form(1, page="1"), form(2, page="0")], 1) == [
        Page({"page": "0"}, 0.5),
        Page({}, 0.25),
    ]
    by_offset = [form(3, limit="20"), form(1, offset="20", limit="20"), form(2, offset="0", limit="50")]
    assert [page.varying for page in first_pages(by_offset, 1)] == [
        {"limit": "20"},
        {"offset": "0", "limit": "50"},
    ]


def test_where_a_request_stands_is_not_guessed():
    forms = [form(1, cursor="abc"), form(1, page="last"), form(1, page=["1", "2"]), form(1, page="-1")]
    assert first_pages(forms, 5) == []
    assert first_pages([*forms, form(4)], 5) == [Page({}, 0.5)]
    assert first_pages([], 1) is None


def test_what_is_hardly_asked_for_is_left_out():
    assert first_pages([form(990), form(9, page="1"), form(1, page="0")], 1) == [Page({}, 0.99)]
