"""What of a request may be stored, and in which form. Pure; the one place that decides it."""

import hashlib
import hmac
from typing import Final

from otel_analytics.params import ParamRules
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
        self._user_key = settings.hash_key.encode() if settings.user_id_hmac else None

    def user(self, user_id: object) -> str | None:
        """The user id as it is stored: its text, or the keyed HMAC-SHA-256 of it, 32 hexadecimal digits."""
        if user_id is None:
            return None
        text = clean_text(str(user_id), MAX_TEXT_LENGTH)
        if not text or self._user_key is None:
            return text or None
        return hmac.digest(self._user_key, text.encode(), hashlib.sha256).hex()[:_HMAC_HEX_DIGITS]
