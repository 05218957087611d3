"""Query strings: what of them is kept, what is hidden, what makes a pattern. Pure, standard library only."""

import re
from collections.abc import Iterable, Iterator
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
_SECRET_PARTS: Final = (
    "accesskey", "apikey", "credential", "passphrase", "passwd", "password", "privatekey", "secret",
    "signature",
)  # fmt: skip
_SECRET_ENDINGS: Final = ("token", "auth")
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PART: Final = re.compile(r"[^&;#]+")
"""Of an address, or of a form: a parameter, whose value may be an address with a parameter of its own."""
_BEFORE_NAME: Final = re.compile(r"[?\s]")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")
"""RFC 3986, section 3.2.1."""
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*")
"""RFC 7519: three parts in base64url, the first of which is a JSON object. It may go by any name."""
_PATH_PARAM: Final = re.compile(r"\{(\w+)")
_BRACKETS: Final = re.compile(r"[^\w.-]+")
"""And what else stands around a name: `user[name]`, ` name`."""
_NOT_LETTERS: Final = re.compile(r"[^a-z]+")
_PATH_SAFE: Final = "/:@!$&'()*+,;=~%"
_PLAIN_PARAM: Final = r"[\w.~:,/-]+(?:=[\w.~:,/-]*)?"
_PLAIN_QUERY: Final = re.compile(f"{_PLAIN_PARAM}(?:&{_PLAIN_PARAM})*", re.ASCII)
"""As most are: nothing in it is encoded, and but for the names and `_JWT` there is nothing to look for."""
_LAYERS: Final = 5
"""So often may text be percent-encoded; each time an address is passed on in another one adds a layer."""
_DECODED: Final = 12 * MAX_PARAM_LENGTH
"""Characters of a parameter as it was sent; a character is twelve at most, percent-encoded."""
_LOOKED_AT: Final = 4 * MAX_ROUTE_FULL_LENGTH
"""Characters. More than is kept, so that what a cut would hide from the patterns above is hidden before."""


class ParamRules:
    """Which parameters are hidden, and which do not make a pattern; remembers what it decided."""

    _REMEMBERED = 1_000

    def __init__(self, *, redacted: Iterable[str] = (), ignored_in_pattern: Iterable[str] = ()) -> None:
        """Rules with additions of the user's.

        Args:
            redacted: Further names whose values are hidden, compared without regard to case or brackets.
            ignored_in_pattern: Further names that vary inside one pattern.
        """
        self._redacted = frozenset(name.lower() for name in redacted)
        self._ignored = IGNORED_IN_PATTERN | frozenset(ignored_in_pattern)
        self._secret: dict[str, bool] = {}
        self._secret_routes: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether the value of a parameter with this name is hidden."""
        known = self._secret.get(name)
        if known is None:
            known = any(self._is_redacted(each) or looks_secret(each) for each in _layers(name))
            if len(self._secret) < self._REMEMBERED and len(name) <= MAX_PARAM_LENGTH:
                self._secret[name] = known
        return known

    def _is_redacted(self, name: str) -> bool:
        lower = name.lower()
        return lower in self._redacted or not self._redacted.isdisjoint(_BRACKETS.split(lower))

    def address(self, path: str, query: str) -> tuple[str, QueryParams, QueryParams]:
        """What `redact` and `read` give, in one go, since every request needs both."""
        params = self._plain(query)
        if params is None:
            return self.redact(path, query), *self.read(query)
        shown = clean_text(f"{self._shown_path(path)}?{query}", MAX_ROUTE_FULL_LENGTH)
        return shown, params, self._pattern(params)

    def _plain(self, query: str) -> QueryParams | None:
        """The parameters, or None where something is to be decoded, hidden, cut off or put in a list."""
        if len(query) > MAX_PARAM_LENGTH or "eyJ" in query or not _PLAIN_QUERY.fullmatch(query):
            return None
        params: QueryParams = {}
        for piece in query.split("&"):
            name, _, value = piece.partition("=")
            if name in params or self.is_secret(name):
                return None
            params[name] = value
        return params if len(params) <= MAX_PARAMS else None

    def read(self, query: str) -> tuple[QueryParams, QueryParams]:
        """The parameters of a query string, and those of them that make its pattern.

        A repeated name keeps a list, a name without a value the empty text, and what is too much is cut off:
        `MAX_PARAMS` parameters, `MAX_PARAM_LENGTH` characters each, `MAX_PARAMS_LENGTH` altogether (as sent
        or as kept, whichever is more).

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
            plain_name = _decode(raw_name)
            name = self._kept(plain_name)
            value = REDACTED if self.is_secret(plain_name) else self._kept(_decode(raw_value))
            left -= max(len(name) + len(value), min(len(piece), _DECODED))
            if left < 0:
                break
            earlier = params.get(name)
            if earlier is None:
                params[name] = value
            elif isinstance(earlier, list):
                earlier.append(value)
            else:
                params[name] = [earlier, value]
        return params, self._pattern(params)

    def _pattern(self, params: QueryParams) -> QueryParams:
        return {name: params[name] for name in sorted(params) if name not in self._ignored}

    def path(self, sent: str, route: str) -> str:
        """The path as sent, or the template of the route where one of its parameters is a secret."""
        known = self._secret_routes.get(route)
        if known is None:
            known = any(self.is_secret(name) for name in _PATH_PARAM.findall(route))
            if len(self._secret_routes) < self._REMEMBERED:
                self._secret_routes[route] = known
        return route if known else sent

    def redact(self, path: str, query: str) -> str:
        """Path and query as sent, with the values of secrets hidden; `MAX_ROUTE_FULL_LENGTH` at most."""
        path = self._shown_path(path)
        if not query:
            return clean_text(path, MAX_ROUTE_FULL_LENGTH)
        shown, length = [], len(path)
        for piece in query[:_LOOKED_AT].split("&"):
            # There is no need to look at what is cut off anyway.
            if length > MAX_ROUTE_FULL_LENGTH:
                break
            shown.append(self._hide(piece))
            length += len(shown[-1]) + 1
        return clean_text(f"{path}?{'&'.join(shown)}", MAX_ROUTE_FULL_LENGTH)

    def _shown_path(self, path: str) -> str:
        path = path[:_LOOKED_AT]
        hidden = self._hide_within(path)
        return path if hidden == path else quote(hidden, safe=_PATH_SAFE, errors="replace")

    def _kept(self, text: str) -> str:
        # Hidden before it is cut: what a cut leaves of a secret need not look like one.
        return clean_text(self._hide_within(text), MAX_PARAM_LENGTH)

    def _hide(self, piece: str) -> str:
        name, equals, value = piece.partition("=")
        if equals and self.is_secret(_decode(name)):
            value = REDACTED
        return f"{self._hide_sent(name)}{equals}{self._hide_sent(value)}"

    def _hide_sent(self, text: str) -> str:
        """The text as it was sent, unless something of it has to be hidden."""
        if _is_plain(text):
            return text
        plain = unquote_plus(text, errors="replace")
        hidden = self._hide_within(plain)
        return text if hidden == plain else quote(hidden, safe="", errors="replace")

    def _hide_within(self, text: str) -> str:
        """The text without the secrets of an address that it holds, such as one signed for download.

        They may be encoded once more, as they have to be where the address was passed on. A text that is
        encoded more often than any address is hidden as a whole.
        """
        if _is_plain(text):
            return text
        shown = layer = text
        for _ in range(_LAYERS):
            hidden = _PART.sub(self._hide_part, _USER_INFO.sub(REDACTED, _JWT.sub(REDACTED, layer)))
            if hidden != layer:
                shown = layer = hidden
            decoded = unquote(layer, errors="replace")
            if decoded == layer:
                return shown
            layer = decoded
        return REDACTED

    def _hide_part(self, found: re.Match[str]) -> str:
        part = found[0]
        end = 0
        for before in part.split("=")[:-1]:
            end += len(before) + 1
            name = _BEFORE_NAME.split(before.rstrip())[-1]
            if self.is_secret(name) and end < len(part):
                return part[:end] + REDACTED
        return part


def looks_secret(name: str) -> bool:
    """Whether a name says that its value is a secret: `api_key`, `X-Amz-Signature`, `accessToken`, ..."""
    lower = name.lower()
    # As it is written, and in any other case.
    words = {*(word.lower() for word in _WORDS.findall(name)), *_NOT_LETTERS.split(lower)}
    if not _SECRET_WORDS.isdisjoint(words) or {"api", "key"} <= words:
        return True
    joined = _NOT_LETTERS.sub("", lower)
    return joined.endswith(_SECRET_ENDINGS) or any(part in joined for part in _SECRET_PARTS)


def without_id(path: str, query: str, user_id: str, shown: str) -> tuple[str, str]:
    """Path and query as sent, with `shown` for each segment and each value that is the id of the user."""
    path = "/".join(shown if unquote(each, errors="replace") == user_id else each for each in path.split("/"))
    pieces = (piece.partition("=") for piece in query.split("&"))
    query = "&".join(
        name + equals + (shown if unquote_plus(value, errors="replace") == user_id else value)
        for name, equals, value in pieces
    )
    return path, query


def _is_plain(text: str) -> bool:
    """Whether there can be nothing in the text that has to be hidden."""
    return "=" not in text and "@" not in text and "%" not in text and "eyJ" not in text


def _layers(text: str) -> Iterator[str]:
    """The text as it is, decoded, decoded once more, and so on."""
    for _ in range(_LAYERS):
        yield text
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return
        text = decoded


def _decode(text: str) -> str:
    text = text[:_DECODED]
    return unquote_plus(text, errors="replace") if "%" in text or "+" in text else text
