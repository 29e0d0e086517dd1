"""Which text lies in which row of the encoder process's memory, seen from the worker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""A key whose text nobody knows yet."""
NEW = -2
"""A key never looked up."""

_EVICTED_SHARE = 8
"""A full table lets an eighth of its rows go at once: finding the oldest costs one pass."""


class RowsExhausted(Exception):
    """One micro-batch needs more texts than there are rows: make it smaller."""


class TextRows(dict[str, int]):
    """Text key -> row, :data:`UNKNOWN` or :data:`NEW`; the longest unused rows are given again.

    A plain dict look-up, so that fifty keys of a window are resolved by one ``map``.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._key_of: list[str | None] = [None] * capacity
        self._last_used: npt.NDArray[np.int64] = np.full(capacity, -1, dtype=np.int64)
        self._free = list(range(capacity - 1, -1, -1))
        self._freed: list[int] = []
        """Since this micro-batch began: it may have looked them up, so they wait for the next."""
        self._clock = 0
        self.unknown: dict[str, None] = {}
        """Keys without a text, longest known first; as many as there are rows."""

    def __missing__(self, key: str) -> int:
        return NEW

    def new_batch(self) -> None:
        """Begin a micro-batch: its rows are not given to another key until the next one begins."""
        self._clock += 1
        self._free += self._freed
        self._freed.clear()

    def use(self, rows: npt.NDArray[np.int32]) -> None:
        """Mark rows (negative ones are passed over) as used by this micro-batch."""
        self._last_used[rows[rows >= 0]] = self._clock

    def assign(self, key: str) -> int:
        """Give the key a row.

        Raises:
            RowsExhausted: every row is in use by this micro-batch.
        """
        if not self._free:
            self._evict()
        row = self._free.pop()
        self._key_of[row] = key
        self._last_used[row] = self._clock
        self[key] = row
        self.unknown.pop(key, None)
        return row

    def mark_unknown(self, key: str) -> None:
        """Remember that nobody knows this key's text, until :meth:`discard`."""
        self[key] = UNKNOWN
        self.unknown[key] = None
        if len(self.unknown) > len(self._key_of):
            self.discard(next(iter(self.unknown)))

    def discard(self, key: str) -> None:
        """Forget a key; its row is free again from the next micro-batch on."""
        row = self.pop(key, NEW)
        self.unknown.pop(key, None)
        if row >= 0:
            self._key_of[row] = None
            self._last_used[row] = self._clock
            self._freed.append(row)

    def reset(self) -> None:
        """Forget all rows: the encoder process has started anew. What is unknown stays so."""
        capacity = len(self._key_of)
        self.clear()
        self._freed.clear()
        self._key_of = [None] * capacity
        self._last_used.fill(-1)
        self._free = list(range(capacity - 1, -1, -1))

    def _evict(self) -> None:
        count = max(1, len(self._key_of) // _EVICTED_SHARE)
        oldest = np.argpartition(self._last_used, count - 1)[:count]
        for row in oldest[self._last_used[oldest] < self._clock].tolist():
            key = self._key_of[row]
            if key is not None:
                del self[key]
                self._key_of[row] = None
                self._free.append(row)
        if not self._free:
            raise RowsExhausted(f"all {len(self._key_of)} text rows are in use by one micro-batch")
