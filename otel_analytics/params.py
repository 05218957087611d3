"""Query strings: what of them is kept, what is hidden, what makes a pattern. Pure, standard library only."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from otel_analytics.record import (
    MAX_PARAM_LENGTH,
    MAX_PARAMS,
    MAX_PARAMS_LENGTH,
    MAX_ROUTE_FULL_LENGTH,
    REDACTED,
    QueryParams,
    clean_text,
)

IGNORED_IN_PATTERN: Final = frozenset({"page", "offset", "limit", "cursor"})
"""Parameters that vary inside one pattern."""

_SECRET_WORDS: Final = frozenset(
    {
        "apikey", "auth", "authorization", "credential", "credentials", "jwt", "passphrase", "passwd",
        "password", "pwd", "secret", "sig", "signature", "token",
    }
)  # fmt: skip
# Compounds written in one word, such as accesstoken; the short words above are left out, as they are part of
# too many others (author, design).
_SECRET_PARTS: Final = ("apikey", "credential", "passphrase", "passwd", "password", "secret", "signature")
_SECRET_ENDINGS: Final = ("token", "auth")
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_WITHIN: Final = re.compile(r"([?&;#])([^=?&;#\s]+)=([^&;#\s]+)")
"""A parameter of an address that is itself a value."""
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")
"""RFC 3986, section 3.2.1."""
_NOT_A_LETTER: Final = re.compile(r"[^a-z]")


class ParamRules:
    """Which parameters are hidden, and which do not make a pattern; remembers what it decided."""

    _REMEMBERED = 1_000

    def __init__(self, *, redacted: Iterable[str] = (), ignored_in_pattern: Iterable[str] = ()) -> None:
        """Rules with additions of the user's.

        Args:
            redacted: Further names whose values are hidden, compared without regard to case.
            ignored_in_pattern: Further names that vary inside one pattern.
        """
        self._redacted = frozenset(name.lower() for name in redacted)
        self._ignored = IGNORED_IN_PATTERN | frozenset(ignored_in_pattern)
        self._secret: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether the value of a parameter with this name is hidden."""
        known = self._secret.get(name)
        if known is None:
            known = name.lower() in self._redacted or looks_secret(name)
            if len(self._secret) < self._REMEMBERED:
                self._secret[name] = known
        return known

    def read(self, query: str) -> tuple[QueryParams, QueryParams]:
        """The parameters of a query string, and those of them that make its pattern.

        A repeated name keeps a list, a name without a value the empty text, and what is too much is cut off:
        `MAX_PARAMS` parameters, `MAX_PARAM_LENGTH` characters each, `MAX_PARAMS_LENGTH` altogether.

        Args:
            query: As sent, percent-encoded, without the question mark.

        Returns:
            All of them in the order sent, and the pattern with its names sorted; secrets are `REDACTED`.
        """
        if not query:
            return {}, {}
        params: QueryParams = {}
        left = MAX_PARAMS_LENGTH
        for piece in query.split("&", MAX_PARAMS)[:MAX_PARAMS]:
            if not piece:
                continue
            raw_name, _, raw_value = piece.partition("=")
            name = _decode(raw_name)
            value = REDACTED if self.is_secret(name) else self._hide_within(_decode(raw_value))
            left -= len(name) + len(value)
            if left < 0:
                break
            earlier = params.get(name)
            if earlier is None:
                params[name] = value
            elif isinstance(earlier, list):
                earlier.append(value)
            else:
                params[name] = [earlier, value]
        pattern = {name: params[name] for name in sorted(params) if name not in self._ignored}
        return params, pattern

    def redact(self, path: str, query: str) -> str:
        """Path and query as sent, with the values of secrets hidden; `MAX_ROUTE_FULL_LENGTH` at most."""
        if "@" in path:
            path = _USER_INFO.sub(REDACTED, path)
        if not query:
            return clean_text(path, MAX_ROUTE_FULL_LENGTH)
        # A value is hidden before the text is cut, and there is no need to look at what is cut off anyway.
        pieces = query[: MAX_ROUTE_FULL_LENGTH + 1].split("&")
        shown = "&".join(self._hide(piece) for piece in pieces)
        return clean_text(f"{path}?{shown}", MAX_ROUTE_FULL_LENGTH)

    def _hide(self, piece: str) -> str:
        name, equals, value = piece.partition("=")
        if not equals:
            return piece
        if self.is_secret(_decode(name)):
            return f"{name}={REDACTED}"
        plain = unquote_plus(value, errors="replace")
        hidden = self._hide_within(plain)
        return piece if hidden == plain else f"{name}={quote(hidden, safe='')}"

    def _hide_within(self, value: str) -> str:
        """The value without the secrets of an address that it holds, such as one signed for download."""
        if "=" not in value and "@" not in value and "%" not in value:
            return value
        hidden = _WITHIN.sub(
            lambda found: f"{found[1]}{found[2]}={REDACTED}" if self.is_secret(found[2]) else found[0],
            _USER_INFO.sub(REDACTED, value),
        )
        if hidden == value and "%" in value:
            # Encoded once more, as it has to be where the address was passed on.
            plain = unquote(value, errors="replace")
            return value if plain == value or self._hide_within(plain) == plain else self._hide_within(plain)
        return hidden


def looks_secret(name: str) -> bool:
    """Whether a name says that its value is a secret: `api_key`, `X-Amz-Signature`, `accessToken`, ..."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not _SECRET_WORDS.isdisjoint(words) or ("api" in words and "key" in words):
        return True
    joined = _NOT_A_LETTER.sub("", name.lower())
    return joined.endswith(_SECRET_ENDINGS) or any(part in joined for part in _SECRET_PARTS)


def _decode(text: str) -> str:
    if "%" in text or "+" in text:
        text = unquote_plus(text[: 12 * MAX_PARAM_LENGTH], errors="replace")
    return clean_text(text, MAX_PARAM_LENGTH)
