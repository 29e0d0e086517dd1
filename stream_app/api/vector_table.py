"""Vectors by key, capped, and those nearest to one of them.

Legend: N rows used, D dimensions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from encoders.interface import Float32, Int64

_SPARE = 16
"""Rows looked at beyond those asked for: some may change hands while a thread adds up."""


class Near(NamedTuple):
    """A key and the dot product of its vector."""

    key: str
    score: float
    offset: int


class VectorTable:
    """At the cap, the key goes whose vector is the oldest.

    Written by the event loop alone. Searched by a thread, so what it found is looked up once more:
    a row may have another owner by then.
    """

    def __init__(self, dimensions: int, most: int) -> None:
        self.dimensions = dimensions
        self._most = most
        # Untouched pages of zeros cost nothing; growing by copies would halt the event loop.
        self._vectors: Float32 = np.zeros((most, dimensions), np.float32)
        self._offsets: Int64 = np.zeros(most, np.int64)
        self._row_of: dict[str, int] = {}
        """In the order of the latest vector."""
        self._key_at: list[str | None] = []
        self._free: list[int] = []
        self.evicted = 0
        """How many had to go for another one."""

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: str) -> bool:
        return key in self._row_of

    def put(
        self, keys: Sequence[str], vectors: Float32, offsets: Sequence[int] | None = None
    ) -> None:
        """Take up the vectors [len(keys), D] of different keys, newer than those that are held."""
        if not keys:
            return
        rows = [self._row(key) for key in keys]
        self._vectors[rows] = vectors
        if offsets is not None:
            self._offsets[rows] = offsets

    def remove(self, key: str) -> None:
        """Drop a key, if it is held."""
        row = self._row_of.pop(key, None)
        if row is not None:
            self._key_at[row] = None
            self._vectors[row] = 0.0
            self._offsets[row] = 0
            self._free.append(row)

    def offset(self, key: str) -> int:
        """Return the offset that came with a key's vector; -1 where there is none."""
        row = self._row_of.get(key)
        return -1 if row is None else int(self._offsets[row])

    def vector(self, key: str) -> Float32:
        """Return a copy of a key's vector [D]."""
        copied: Float32 = self._vectors[self._row_of[key]].copy()
        return copied

    async def nearest(
        self, vector: Float32, count: int, unwanted: Collection[str] = ()
    ) -> list[Near]:
        """Return the ``count`` keys of the greatest dot product with ``vector`` [D], the greatest
        first, but not those that are ``unwanted``."""
        used = len(self._key_at)
        looked_at = count + len(unwanted) + len(self._free) + _SPARE
        rows = await asyncio.to_thread(_best_rows, self._vectors[:used], vector, looked_at)
        found = []
        for row in rows:
            key = self._key_at[row]
            if key is not None and key not in unwanted:
                score = float(self._vectors[row] @ vector)
                found.append(Near(key, score, int(self._offsets[row])))
        found.sort(key=lambda near: (-near.score, near.key))
        return found[:count]

    def _row(self, key: str) -> int:
        row = self._row_of.pop(key, None)
        if row is None:
            row = self._new_row()
            self._key_at[row] = key
        self._row_of[key] = row
        return row

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        if len(self._key_at) < self._most:
            self._key_at.append(None)
            return len(self._key_at) - 1
        oldest = next(iter(self._row_of))
        self.evicted += 1
        return self._row_of.pop(oldest)


def _best_rows(vectors: Float32, vector: Float32, count: int) -> list[int]:
    scores = vectors @ vector
    if count >= len(scores):
        return list(range(len(scores)))
    best: list[int] = np.argpartition(-scores, count)[:count].tolist()
    return best
