"""What of a request may be stored, and in which form. Pure; the one place that decides it."""

import hashlib
import hmac
from typing import Final

from otel_analytics.params import ParamRules, without_id
from otel_analytics.record import MAX_TEXT_LENGTH, clean_text
from otel_analytics.settings import Settings

_HMAC_HEX_DIGITS: Final = 32


class Privacy:
    """The settings that say what is stored, ready for use.

    Attributes:
        params: Which parameters are hidden, and which make a pattern.
        client_fields: Which of `client_address`, `user_agent`, `referrer`, `session_id` are stored.
    """

    def __init__(self, settings: Settings) -> None:
        """As the settings say."""
        self.params: Final = ParamRules(
            redacted=settings.redacted_params, ignored_in_pattern=settings.pattern_ignored_params
        )
        self.client_fields: Final = frozenset(settings.capture_client)
        self._key = settings.hash_key.encode()
        self._hides_users = settings.user_id_hmac

    def user(self, user_id: object) -> str | None:
        """The user id as it is stored: its text, or the keyed HMAC-SHA-256 of it, 32 hexadecimal digits."""
        if user_id is None:
            return None
        text = clean_text(str(user_id), MAX_TEXT_LENGTH)
        return self._hidden(text) if text and self._hides_users else text or None

    def address(self, path: str, query: str, user_id: object) -> tuple[str, str]:
        """Path and query as sent; where ids are hidden, without the id of the user who sent them."""
        shown = self.user(user_id) if self._hides_users else None
        if shown is None:
            return path, query
        return without_id(path, query, clean_text(str(user_id), MAX_TEXT_LENGTH), shown)

    def stored_users(self, user_id: str) -> set[str]:
        """All forms in which a user id may have been stored, whatever `user_id_hmac` was then."""
        return {user_id, self._hidden(user_id)} if self._key else {user_id}

    def _hidden(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()[:_HMAC_HEX_DIGITS]
