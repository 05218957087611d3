import gzip
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.capture.body_hash import BodyHash, key_of

KEY = key_of("a secret")


def hash_of(*pieces, key=KEY, max_bytes=1_000):
    body_hash = BodyHash(key, max_bytes)
    for piece in pieces:
        body_hash.update(piece)
    return body_hash.digest()


def cut(body, places):
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)), st.integers(1, 250))
def test_it_does_not_matter_how_a_body_is_cut(body, places, max_bytes):
    assert hash_of(*cut(body, places), max_bytes=max_bytes) == hash_of(body, max_bytes=max_bytes)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 30)), st.integers(1, 40))
def test_when_a_body_was_compressed_does_not_matter(body, moment, places, max_bytes):
    """Nor how it is cut then, in the middle of the time stamp for example."""
    one = gzip.compress(body)
    other = one[:4] + moment.to_bytes(4, "little") + one[8:]
    assert hash_of(*cut(other, places), max_bytes=max_bytes) == hash_of(one, max_bytes=max_bytes)


@given(st.integers(3_000, 12_000), st.lists(st.integers(0, 12_000)), st.integers(1, 20_000), st.booleans())
def test_nor_does_it_for_a_body_that_is_too_long_to_be_kept(size, places, max_bytes, compressed):
    body = (b"\x1f\x8b\x08\x00" if compressed else b"") + bytes(number % 251 for number in range(size))
    assert hash_of(*cut(body, places), max_bytes=max_bytes) == hash_of(body, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("body", "max_bytes", "known"),
    [
        (b"", 1_000, -3339120347955254487),
        (b"body", 1_000, 1837392834776007932),
        (b"\x1f\x8b\x08\x00abcdxyz", 1_000, 1141040093738298749),
        (b"x" * 10_000, 1_000_000, 3303902813815360665),
        (b"x" * 10_000, 5_000, -4429591223662344235),
        (b"\x1f\x8b" + b"z" * 9_000, 1_000_000, -1918184219862112718),
    ],
)
def test_hashes_that_are_stored_can_be_compared_with_new_ones(body, max_bytes, known):
    assert hash_of(body, max_bytes=max_bytes) == known


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_other_bodies_have_other_hashes(one, other):
    assert (hash_of(one) == hash_of(other)) == (one == other)


def test_of_a_long_body_the_beginning_and_the_length_count():
    assert hash_of(b"x" * 2_000) != hash_of(b"x" * 2_001)
    assert hash_of(b"x" * 1_000) != hash_of(b"x" * 1_001)
    assert hash_of(b"x" * 1_000 + b"a") == hash_of(b"x" * 1_000 + b"b")


def test_another_key_gives_other_hashes():
    assert hash_of(b"body", key=key_of("another")) != hash_of(b"body")
    assert len(key_of("x" * 10_000)) <= 64
    assert key_of("") != key_of("x")


@pytest.mark.parametrize("body", [b"", b"x", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08"])
def test_it_fits_a_signed_number_of_64_bits(body):
    assert -(2**63) <= hash_of(body) < 2**63
