"""What response headers say of a cache. Pure."""

import re
from collections.abc import Iterable
from typing import Final

_BY_FORWARD_REASON: Final = {
    "bypass": "bypass",
    "method": "bypass",
    "request": "bypass",
    "uri-miss": "miss",
    "vary-miss": "miss",
    "miss": "miss",
    "stale": "stale",
    "partial": "partial",
}
"""RFC 9211, section 2.2: why the request went forward."""
_WORDS: Final = ("hit", "miss", "bypass", "stale", "expired", "revalidated", "updating", "dynamic", "refresh")
_HEADERS: Final = (b"cache-status", b"x-fastapi-cache", b"cf-cache-status", b"x-cache")
"""The most telling first; the name of a header in `read` must be one of them, or `age`."""
NAMES: Final = frozenset({*_HEADERS, b"age"})
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


def read(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Whether a cache answered, in one lower-case word, such as `hit`, `miss`, `bypass` or `stale`.

    Args:
        headers: Of the response; names in lower case, as ASGI has them.

    Returns:
        None where no header tells.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in NAMES:
            # A header sent twice is one list (RFC 9110, section 5.3).
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    if not found:
        return None
    for name in _HEADERS:
        if name in found:
            status = _from_cache_status(found[name]) if name == b"cache-status" else _first_word(found[name])
            if status:
                return status
    # RFC 9111, section 5.1: Age is there only on a response that came out of a cache.
    return "hit" if found.get(b"age", "").strip().isdigit() else None


def _from_cache_status(text: str) -> str | None:
    """Of several caches the last in the list is the one nearest to the client (RFC 9211, section 2)."""
    member = _QUOTED.sub('""', text).rpartition(",")[2]
    _, *parameters = (part.strip().lower() for part in member.split(";"))
    if "hit" in parameters or "hit=?1" in parameters:
        return "hit"
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "fwd":
            return _BY_FORWARD_REASON.get(value)
    return None


def _first_word(text: str) -> str | None:
    # `HIT`, `Hit from cloudfront`, `TCP_MEM_HIT`, or one of several caches, of which the last is the nearest.
    nearest = text.rpartition(",")[2].lower()
    return next((word for word in _WORDS if word in nearest), None)
