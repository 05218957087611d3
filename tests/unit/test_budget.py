"""The best set under a budget, against all sets there are."""

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.analyze import budget
from otel_analytics.analyze.budget import Way, choose

WAYS = st.builds(Way, st.integers(0, 30), st.integers(1, 30))
PATTERNS = st.lists(st.lists(WAYS, max_size=3), max_size=6)


def taken(patterns, chosen):
    ways = [ways[way] for ways, way in zip(patterns, chosen.ways, strict=True) if way is not None]
    return sum(way.memory_bytes for way in ways), sum(way.saved_us for way in ways)


def best_of_all(patterns, memory):
    sets = itertools.product(*([Way(0, 0), *ways] for ways in patterns))
    return max(
        sum(way.saved_us for way in each) for each in sets if sum(way.memory_bytes for way in each) <= memory
    )


@given(PATTERNS, st.integers(0, 100))
def test_no_set_that_fits_saves_more(patterns, memory):
    chosen = choose(patterns, memory)
    used, saved = taken(patterns, chosen)
    assert used <= memory
    assert saved == best_of_all(patterns, memory)
    assert chosen.missed_us == 0


def test_the_best_set_is_not_that_of_the_best_singles():
    large, small = [Way(10, 100)], [Way(5, 60)]
    assert choose([large, small, small], 10).ways == [None, 0, 0]


def test_a_cheaper_way_makes_room_for_another_pattern():
    ways = [Way(4, 50), Way(10, 60)]
    assert choose([ways, ways], 10).ways == [0, 0]
    assert choose([ways, ways], 14).ways in ([0, 1], [1, 0])
    assert choose([ways, ways], 20).ways == [1, 1]


@given(PATTERNS, st.integers(0, 100))
def test_with_too_many_sums_it_is_known_what_may_be_missed(patterns, memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "MOST_SUMS", 2)
        chosen = choose(patterns, memory)
    used, saved = taken(patterns, chosen)
    assert used <= memory
    assert saved <= best_of_all(patterns, memory) <= saved + chosen.missed_us


def test_thousands_of_patterns_take_no_time():
    chance = random.Random(1)
    patterns = [
        [Way(chance.randrange(1, 10**7), chance.randrange(1, 10**9)) for _ in range(10)] for _ in range(3_000)
    ]
    begin = time.perf_counter()
    chosen = choose(patterns, 10**9)
    assert time.perf_counter() - begin < 10
    assert taken(patterns, chosen)[0] <= 10**9
    assert chosen.missed_us == 0
