import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.privacy import Privacy
from otel_analytics.record import MAX_TEXT_LENGTH, is_storable
from otel_analytics.settings import Settings

PLAIN = Privacy(Settings())
HASHED = Privacy(Settings(user_id_hmac=True, hash_key="a secret"))


@pytest.mark.parametrize(
    ("given_id", "stored"), [("ada", "ada"), (7, "7"), (b"x", "b'x'"), ("", None), (None, None), (0, "0")]
)
def test_users_as_they_are(given_id, stored):
    assert PLAIN.user(given_id) == stored


def test_users_as_keyed_hashes():
    assert HASHED.user("ada") == hmac.digest(b"a secret", b"ada", hashlib.sha256).hex()[:32]
    assert HASHED.user(7) == HASHED.user("7")
    assert HASHED.user("") is None
    assert HASHED.user(None) is None
    assert Privacy(Settings(user_id_hmac=True, hash_key="another")).user("ada") != HASHED.user("ada")


@given(st.text(st.characters(exclude_categories=()), max_size=2 * MAX_TEXT_LENGTH))
def test_any_text_can_be_a_user(text):
    plain, hashed = PLAIN.user(text), HASHED.user(text)
    assert (plain is None) == (hashed is None) == (text == "")
    if text:
        assert is_storable(plain)
        assert len(plain) <= MAX_TEXT_LENGTH
        assert len(hashed) == 32


def test_what_the_settings_add():
    privacy = Privacy(
        Settings(
            redacted_params=("ssn",), pattern_ignored_params=("variant",), capture_client=("user_agent",)
        )
    )
    assert privacy.params.read("ssn=1&variant=2")[1] == {"ssn": "REDACTED"}
    assert privacy.client_fields == {"user_agent"}
    assert PLAIN.client_fields == frozenset()
