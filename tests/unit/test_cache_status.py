import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.capture.cache_status import NAMES, read


def cache_status(*values):
    return read([(b"cache-status", value.encode()) for value in values])


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("ExampleCache; hit", "hit"),
        ("ExampleCache;hit", "hit"),
        ("ExampleCache; hit=?1; ttl=376", "hit"),
        ("ExampleCache; hit=?0; fwd=stale", "stale"),
        ("ExampleCache; fwd=uri-miss; stored", "miss"),
        ("ExampleCache; fwd=vary-miss", "miss"),
        ("ExampleCache; fwd=miss; collapsed", "miss"),
        ("ExampleCache; fwd=stale; fwd-status=304", "stale"),
        ("ExampleCache; fwd=partial", "partial"),
        ("ExampleCache; fwd=bypass", "bypass"),
        ("ExampleCache; fwd=method", "bypass"),
        ("ExampleCache; fwd=request", "bypass"),
        ("ExampleCache; ttl=30; HIT", "hit"),
        # The last one is the nearest to the client (RFC 9211, section 2).
        ("OriginCache; hit; ttl=1100, CDN; fwd=uri-miss", "miss"),
        (
            "ReverseProxyCache; hit, ForwardProxyCache; fwd=uri-miss; collapsed, BrowserCache; fwd=uri-miss",
            "miss",
        ),
        # A comma or a semicolon in quotes is none.
        ('"Nginx, the; cache"; hit; detail="a, b; fwd=miss \\" c"', "hit"),
        ('Cache; fwd=uri-miss; detail="hit, hit; hit"', "miss"),
        ("ExampleCache", None),
        ("ExampleCache; fwd=unheard-of", None),
        ("hit", None),
        ("", None),
        (",;=,", None),
    ],
)
def test_rfc_9211(value, status):
    assert cache_status(value) == status


def test_a_header_that_is_sent_twice_is_one_list():
    assert cache_status("Origin; fwd=uri-miss", "Edge; hit") == "hit"


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-fastapi-cache", "HIT", "hit"),
        ("x-fastapi-cache", "MISS", "miss"),
        ("x-cache", "Hit from cloudfront", "hit"),
        ("x-cache", "TCP_MEM_HIT", "hit"),
        ("x-cache", "MISS, HIT", "hit"),
        ("x-cache", "HIT, MISS", "miss"),
        ("x-cache", "RefreshHit from cloudfront", "hit"),
        ("cf-cache-status", "EXPIRED", "expired"),
        ("cf-cache-status", "REVALIDATED", "revalidated"),
        ("cf-cache-status", "DYNAMIC", "dynamic"),
        ("x-cache", "none", None),
        ("age", "0", "hit"),
        ("age", " 17 ", "hit"),
        ("age", "-1", None),
        ("age", "soon", None),
        ("etag", "hit", None),
    ],
)
def test_other_headers(header, value, status):
    assert read([(header.encode(), value.encode())]) == status


def test_the_most_telling_header_counts():
    headers = [(b"age", b"3"), (b"x-cache", b"MISS"), (b"cache-status", b"Edge; fwd=stale")]
    assert read(headers) == "stale"
    assert read(headers[:2]) == "miss"
    # One that says nothing leaves it to the next.
    assert read([(b"cache-status", b"Edge"), *headers[:2]]) == "miss"


@given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), st.binary(max_size=60))))
def test_no_header_is_too_odd(headers):
    status = read(headers)
    assert status is None or status.isalpha()
