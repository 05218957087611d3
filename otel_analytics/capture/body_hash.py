"""A keyed 64-bit hash of a response body, taken as it passes."""

import hashlib
from typing import Final

_BYTES: Final = 8
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_TIME: Final = slice(4, 8)
"""RFC 1952, section 2.3: when the body was compressed, which says nothing of its content."""
_NO_TIME: Final = bytes(4)
_HELD: Final = 4_096
"""Bytes that are kept at most."""


def key_of(secret: str) -> bytes:
    """The key that a secret of any length stands for."""
    return hashlib.blake2b(secret.encode(), person=b"otel-analytics").digest()


class BodyHash:
    """Takes in the body in pieces; how it was cut into pieces does not matter.

    A short body is kept and hashed when the hash is asked for, which need not be while the request waits.
    """

    __slots__ = ("_hash", "_held", "_key", "_length", "_max_bytes")

    def __init__(self, key: bytes, max_bytes: int) -> None:
        """Nothing taken in yet.

        Args:
            key: 64 bytes at most; only hashes with the same key can be compared.
            max_bytes: Of a longer body, its beginning and its length are hashed.
        """
        self._key = key
        self._max_bytes = max_bytes
        self._held = b""
        self._hash: hashlib.blake2b | None = None
        self._length = 0

    def update(self, piece: bytes) -> None:
        """Take in the next piece."""
        if self._hash is not None:
            self._take_in(self._hash, piece)
            return
        self._held += piece
        if len(self._held) > _HELD:
            self._begin()

    def digest(self) -> int:
        """The hash of what was taken in, as a signed 64-bit number; nothing more can be taken in."""
        taken = self._hash or self._begin()
        if self._length > self._max_bytes:
            taken.update(self._length.to_bytes(_BYTES, "big"))
        return int.from_bytes(taken.digest(), "big", signed=True)

    def _begin(self) -> hashlib.blake2b:
        held, self._held = self._held, b""
        if held[:2] == _GZIP_MAGIC and len(held) >= _GZIP_TIME.stop:
            held = held[: _GZIP_TIME.start] + _NO_TIME + held[_GZIP_TIME.stop :]
        self._hash = hashlib.blake2b(key=self._key, digest_size=_BYTES)
        self._take_in(self._hash, held)
        return self._hash

    def _take_in(self, taken: hashlib.blake2b, piece: bytes) -> None:
        left = self._max_bytes - self._length
        self._length += len(piece)
        if left > 0:
            taken.update(piece if len(piece) <= left else piece[:left])
