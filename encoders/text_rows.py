"""Which text each row of the caller holds: bookkeeping of the vectors kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.interface import Int32


def content_key(namespace: bytes, text: str) -> bytes:
    """Return 16 bytes that name a text's vectors: of the text and of what makes vectors of it.

    Lone surrogates, which JSON can carry and UTF-8 cannot, are kept apart, not refused.
    """
    digest = hashlib.blake2b(digest_size=16, key=namespace)
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


class TextRows:
    """Rows numbered by the caller, 0 to ``count`` - 1, each empty or holding one text."""

    def __init__(self, count: int) -> None:
        self.known: npt.NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        """[count] whether the row's vectors mean something: not so for empty or failed texts."""
        self._keys: list[bytes | None] = [None] * count
        self._row_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def check(self, texts: Sequence[tuple[int, str]]) -> None:
        """Raises ValueError for the first row number outside the slab."""
        for row, _ in texts:
            if not 0 <= row < len(self._keys):
                raise ValueError(f"row {row} is outside the slab of {len(self._keys)} rows")

    def are_known(self, rows: Int32) -> npt.NDArray[np.bool_]:
        """Return [N] whether each row is one, and its vectors mean something."""
        known: npt.NDArray[np.bool_] = (rows >= 0) & self.known[rows]
        return known

    def row_with(self, key: bytes) -> int | None:
        """Return a row that holds the text of this key, if any does."""
        return self._row_of.get(key)

    def key_at(self, row: int) -> bytes | None:
        """Return the key of the text in ``row``; None where it is empty."""
        return self._keys[row]

    def put(self, row: int, key: bytes, *, known: bool) -> None:
        """Remember that ``row`` now holds the text of ``key``, whatever it held before."""
        self.clear(row)
        self._keys[row] = key
        self._row_of[key] = row
        self.known[row] = known

    def clear(self, row: int) -> None:
        """Forget what ``row`` held."""
        key = self._keys[row]
        if key is not None and self._row_of.get(key) == row:
            del self._row_of[key]
        self._keys[row] = None
        self.known[row] = False
