"""A keyed 64-bit hash of a response body, taken as it passes."""

import hashlib
from typing import Final

_BYTES: Final = 8
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_TIME: Final = slice(4, 8)
"""RFC 1952, section 2.3: when the body was compressed, which says nothing of its content."""
_NO_TIME: Final = bytes(4)


def key_of(secret: str) -> bytes:
    """The key that a secret of any length stands for."""
    return hashlib.blake2b(secret.encode(), person=b"otel-analytics").digest()


class BodyHash:
    """Takes in the body in pieces; how it was cut into pieces does not matter."""

    __slots__ = ("_hash", "_head", "_length", "_max_bytes")

    def __init__(self, key: bytes, max_bytes: int) -> None:
        """Nothing taken in yet.

        Args:
            key: 64 bytes at most; only hashes with the same key can be compared.
            max_bytes: Of a longer body, its beginning and its length are hashed.
        """
        self._hash = hashlib.blake2b(key=key, digest_size=_BYTES)
        self._head: bytes | None = b""
        self._length = 0
        self._max_bytes = max_bytes

    def update(self, piece: bytes) -> None:
        """Take in the next piece."""
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < _GZIP_TIME.stop:
                self._head = piece
                return
            self._head = None
            if piece[:2] == _GZIP_MAGIC:
                piece = piece[: _GZIP_TIME.start] + _NO_TIME + piece[_GZIP_TIME.stop :]
        left = self._max_bytes - self._length
        self._length += len(piece)
        if left > 0:
            self._hash.update(piece if len(piece) <= left else piece[:left])

    def digest(self) -> int:
        """The hash of what was taken in, as a signed 64-bit number; nothing more can be taken in."""
        if self._head:
            self._hash.update(self._head[: self._max_bytes])
            self._length = len(self._head)
        if self._length > self._max_bytes:
            self._hash.update(self._length.to_bytes(_BYTES, "big"))
        return int.from_bytes(self._hash.digest(), "big", signed=True)
