import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.store.ledger import sortable
from otel_analytics.stream.books import StreamLedger
from otel_analytics.stream.keys import event_count, id_parts

part = st.integers(0, 2**64 - 1)


@given(part, part, part, part)
def test_padded_ids_sort_as_redis_sorts_them(ms, seq, other_ms, other_seq):
    one, other = f"{ms}-{seq}", f"{other_ms}-{other_seq}"
    assert (sortable(one) < sortable(other)) == (id_parts(one) < id_parts(other))


@pytest.mark.parametrize(
    ("n", "count"),
    [(b"0", 0), (b"7", 7), (b"", 0), (b"-1", 0), (b"x", 0), (b"1.5", 0), (b"\xb2", 0), (b"9" * 40, 0)],
)
def test_only_a_plain_count_counts(n, count):
    assert event_count({b"n": n}) == count
    assert event_count({}) == 0


def test_an_empty_hash_is_an_empty_ledger():
    assert StreamLedger.of({}) == StreamLedger("", 0, 0, 0)
