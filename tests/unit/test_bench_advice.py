"""What the benchmark of the rankings prints is true of a smaller trace, too."""

import runpy
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench" / "advice.py"


@pytest.mark.parametrize("name", ["personalised", "bursty, with noise"])
def test_the_ranking_by_savings_finds_what_an_exhaustive_search_finds(name):
    bench = runpy.run_path(str(BENCH))
    chance = np.random.default_rng(5)
    kinds = bench["TRACES"][name](chance)
    bench["make"].__globals__["REQUESTS"] = 60_000
    trace = bench["make"](kinds, chance)
    for *others, by_savings, _ in ([*each[:3], *each[4:]] for each in bench["shares"](trace, trace)):
        assert by_savings >= 0.98
        assert by_savings > max(others)
