"""The replay against traces small enough to check by hand, and against a cache in a plain loop."""

from hypothesis import given
from hypothesis import strategies as st
from replay_traces import BAD, GOOD, Request, naive, trace

from otel_analytics.analyze.replay import CacheModel, Replay
from otel_analytics.request_columns import KEYED, SAFE, STORABLE

FIGURES = (
    "requests", "hits", "joined", "stored", "saved_queries", "saved_bytes", "compared", "stale", "foreign",
    "foreign_stale", "masked_errors", "peak_bytes",
)  # fmt: skip

requests = st.builds(
    Request,
    start=st.integers(0, 40).map(lambda n: n / 2),
    duration=st.sampled_from([0.0, 0.5, 1.0, 1.5, 4.0]),
    key=st.integers(1, 3),
    user=st.integers(0, 2),
    body=st.integers(0, 2),
    size=st.integers(-1, 3),
    queries=st.integers(-1, 2),
    group=st.integers(0, 1),
    flags=st.sampled_from([GOOD, GOOD, GOOD, BAD, KEYED | STORABLE, SAFE | STORABLE, SAFE | KEYED]),
)
traces = st.lists(requests, min_size=1, max_size=40).map(lambda each: sorted(each, key=lambda r: r.start_us))
models = st.builds(
    CacheModel,
    ttls=st.just((0.5, 1.0, 2.5, 7.0, 100.0)),
    per_user=st.booleans(),
    single_flight=st.booleans(),
    latency_ms=st.sampled_from([0.0, 600.0]),
    entry_overhead_bytes=st.sampled_from([0, 1]),
)


def replayed(trace_of, model, sizes=()):
    """Replay in chunks of these sizes, the rest at once."""
    replay, begin, every = Replay(model), 0, trace(trace_of)
    for size in (*sizes, len(trace_of)):
        replay.feed(every.take(slice(begin, begin + size)))
        begin += size
    return {each.group: each for each in replay.result()}


@given(traces, models, st.lists(st.integers(1, 10), max_size=10))
def test_it_does_what_a_cache_does_request_by_request_whatever_the_chunks(trace_of, model, sizes):
    found = replayed(trace_of, model, sizes)
    for number, ttl in enumerate(model.ttls):
        expected = naive(trace_of, ttl, model)
        assert found.keys() == expected.keys()
        for group, figures in expected.items():
            outcome = found[group].outcomes[number]
            assert outcome.ttl_seconds == ttl
            assert {name: getattr(outcome, name) for name in FIGURES} == {
                name: figures.get(name, 0) for name in FIGURES
            }
            assert outcome.saved_seconds == figures.get("saved_us", 0) / 1e6
            assert [outcome.busiest_requests, outcome.busiest_hits] == figures["busiest"]
