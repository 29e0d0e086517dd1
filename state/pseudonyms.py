"""User ids that nobody without the key can lead back to a user."""

from __future__ import annotations

import hmac

KEY_MIN_CHARS = 32
"""Of a key: 128 bits, where each character is a hexadecimal digit."""
_BYTES = 16
"""Of the digest that are kept: among a billion users, two share one with a chance of 1.5e-21."""


class Pseudonyms:
    """HMAC-SHA256 of user ids (RFC 2104), cut to 128 bits, as 32 hexadecimal digits.

    Keyed, for ids can be guessed: whoever tries them all needs the key, too.

    >>> Pseudonyms("0123456789abcdef" * 2).of("alice")
    '433deb45467e4e53dbaba594c88bc3a2'
    """

    def __init__(self, key: str) -> None:
        if len(key) < KEY_MIN_CHARS:
            raise ValueError(f"the key has {len(key)} characters, {KEY_MIN_CHARS} are needed")
        self._key = key.encode()

    def of(self, user_id: str) -> str:
        """Return the pseudonym: the same for the same id and key, whoever asks."""
        return self.of_key(user_id.encode()).decode()

    def of_key(self, key: bytes) -> bytes:
        """Return what takes the place of a record's key, which is the user id in UTF-8."""
        return hmac.digest(self._key, key, "sha256")[:_BYTES].hex().encode()
