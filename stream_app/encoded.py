"""What the encoder made of a list of windows: vectors, and why some have none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np

from encoders.interface import Float32


class Result(NamedTuple):
    """What became of one window."""

    vector: Float32 | None
    """[D]"""
    granularities: Float32 | None
    """[G, D]"""
    several: Float32 | None
    """[K, D]"""
    failure: str
    """Why there is no vector."""


class Encoded(NamedTuple):
    """Vectors of a list of windows, in its order."""

    vectors: Float32
    granularities: Float32 | None
    several: Float32 | None
    failures: dict[int, str]
    text_s: float = 0.0
    """How long its texts took."""

    def rows(self) -> Iterator[Result]:
        """Yield the result of each window."""
        granularities = repeat(None) if self.granularities is None else self.granularities
        several = repeat(None) if self.several is None else self.several
        found = map(Result, self.vectors, granularities, several, repeat(""))
        if not self.failures:
            yield from found
            return
        for at, result in enumerate(found):
            failure = self.failures.get(at)
            yield result if failure is None else Result(None, None, None, failure)


def joined(left: Encoded, right: Encoded, middle: int) -> Encoded:
    """Return two lists of windows as one; ``middle`` were in the left one."""
    counts = len(left.vectors), len(right.vectors)
    return Encoded(
        np.concatenate([left.vectors, right.vectors]),
        _stacked(left.granularities, right.granularities, counts),
        _stacked(left.several, right.several, counts),
        left.failures | {at + middle: reason for at, reason in right.failures.items()},
        left.text_s + right.text_s,
    )


def _stacked(
    left: Float32 | None, right: Float32 | None, counts: tuple[int, int]
) -> Float32 | None:
    """One above the other; a user who failed has none, and must not cost the others theirs."""
    known = left if left is not None else right
    if known is None:
        return None
    parts = [
        np.zeros((count, *known.shape[1:]), np.float32) if part is None else part
        for part, count in zip((left, right), counts, strict=True)
    ]
    return np.concatenate(parts)
