"""Settings that say what is captured."""

import hashlib
import hmac

import pytest

SERVED_UNDER = "/proxied"


@pytest.fixture(scope="module")
def server(serve):
    return serve(
        "fastapi",
        databases="",
        root_path=SERVED_UNDER,
        response_hash=False,
        hash_key="a secret",
        user_id_hmac=True,
        capture_client=["client_address", "user_agent", "referrer", "session_id"],
        pattern_ignored_params=["variant"],
        redacted_params=["ssn"],
        excluded_paths=["/ping"],
        metrics_path="/own/metrics",
    )


def test_fields_of_the_client(server):
    headers = ["user-agent: browser/1.0", "referer: https://elsewhere/", "x-session-id: s1"]
    event = server.get_event("/sized/a", headers=headers)
    assert (event.client_address, event.user_agent) == ("127.0.0.1", "browser/1.0")
    assert (event.referrer, event.session_id) == ("https://elsewhere/", "s1")


def test_the_user_is_stored_as_a_keyed_hash(server):
    event = server.get_event("/user-async/ada")
    assert event.user_id == hmac.digest(b"a secret", b"ada", hashlib.sha256).hex()[:32]


def test_no_response_is_hashed(server):
    assert server.get_event("/sized/a").response_hash is None


def test_parameters(server):
    event = server.get_event("/sized/a?variant=b&SSN=078-05-1120&sort=asc")
    assert event.query_params == {"variant": "b", "SSN": "REDACTED", "sort": "asc"}
    assert event.query_params_normalized == {"SSN": "REDACTED", "sort": "asc"}
    assert "078-05" not in event.route_full


def test_the_prefix_of_a_proxy_is_part_of_the_route(server):
    event = server.get_event("/sized/a")
    assert (event.route, event.route_full) == ("/proxied/sized/{letter}", "/sized/a")


@pytest.mark.parametrize("prefix", ["", SERVED_UNDER])
def test_paths_that_are_not_recorded(server, prefix):
    """Whether the proxy takes its prefix away or not."""
    for path in ("/ping", "/own/metrics"):
        assert server.get(prefix + path).status == 200
    server.get("/sized/a")
    assert server.next_event().route == "/proxied/sized/{letter}"


def test_the_metrics_are_where_the_setting_says(server):
    assert b"http_server_request_duration_seconds" in server.get("/own/metrics").body
    assert server.get_event("/metrics").status_code == 404
