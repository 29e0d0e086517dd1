"""An ``InterestEncoder`` as a scorer: windows as the worker keeps them, items by dot product.

Legend: B questions of a block, L events of their windows, N items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encoders.evaluation.interactions import Interactions
from encoders.evaluation.metrics import Scores
from encoders.evaluation.ranking import cosine_scores
from encoders.evaluation.splits import Questions
from encoders.interface import Float32, Int64, InterestEncoder, WindowBatch
from state.event import WINDOW_TYPES
from state.window import WindowPolicy

_TEXTS_AT_ONCE = 256
"""Between two calls of the progress function."""


By = Literal["one", "several"]
"""Which of a user's vectors rank: the one, or the K of several interests."""


@dataclass(frozen=True)
class Delay:
    """How much older than the newest the vector is that a reader holds."""

    events: int = 0
    """The user's last so many events are not in it."""
    span_ms: int = 0
    """Nothing of the last so many milliseconds is in it."""

    def __post_init__(self) -> None:
        if self.events < 0 or self.span_ms < 0:
            raise ValueError(f"a delay must be 0 or more, is {self}")


def put_texts(
    encoder: InterestEncoder,
    data: Interactions,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[int, str]]:
    """Embed all texts of ``data`` under their row numbers; return (row, reason) of the failed."""
    failed: list[tuple[int, str]] = []
    for start in range(0, len(data.texts), _TEXTS_AT_ONCE):
        texts = data.texts[start : start + _TEXTS_AT_ONCE]
        media = data.media_of(range(start, start + len(texts)))
        failed += encoder.put_texts(list(enumerate(texts, start)), media).failed
        if progress:
            progress(start + len(texts), len(data.texts))
    return failed


class InterestScorer:
    """Scores are cosines between a user's vector and the items', as a reader would rank.

    The texts of the data must have been put into the encoder before.
    """

    def __init__(
        self,
        encoder: InterestEncoder,
        data: Interactions,
        policy: WindowPolicy,
        delay: Delay | None = None,
        by: By = "one",
    ) -> None:
        """``by`` several: an item's score is the best of the user's K vectors, where the model has
        K; the one vector otherwise."""
        self._encoder = encoder
        self._policy = policy
        self._delay = delay or Delay()
        self._by = by
        rows = np.arange(len(data.item_ids), dtype=np.int32)
        self._items = encoder.item_vectors(rows)

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] cosines; a user without a vector has the same score, 0, everywhere."""
        data = questions.data
        told = [self.told(questions, question) for question in block]
        windows = [held(positions, data.times_ms, self._policy) for positions in told]
        interests = self._encoder.encode(window_batch(data, windows, all_time(data, told)))
        if self._by == "one" or interests.several is None:
            return cosine_scores(interests.vectors, self._items)
        return best_of_several(interests.several, self._items)

    def told(self, questions: Questions, question: int) -> Int64:
        """Return the positions of the user's events when the vector was made, oldest first."""
        positions = questions.past(question)
        times_ms = questions.data.times_ms
        if self._delay.span_ms:
            until = times_ms[questions.asked_at[question]] - self._delay.span_ms
            positions = positions[: np.searchsorted(times_ms[positions], until, side="right")]
        return positions[: max(len(positions) - self._delay.events, 0)]


def held(positions: Int64, times_ms: Int64, policy: WindowPolicy) -> Int64:
    """Return those of ``positions`` (oldest first) that a window of this policy still holds.

    As :func:`state.window.fold` has it for events that come in order; of its three caps the bytes
    are left out, which 50 events without long texts of their own never reach.
    """
    positions = positions[-policy.max_events :]
    if not len(positions):
        return positions
    oldest_ms = times_ms[positions[-1]] - policy.max_age_ms
    return positions[np.searchsorted(times_ms[positions], oldest_ms) :]


def all_time(data: Interactions, told: list[Int64]) -> Int64:
    """Return [B, types] how many events of each type there are at each user's positions."""
    kinds = len(WINDOW_TYPES)
    counts = [np.bincount(data.types[positions], minlength=kinds) for positions in told]
    return np.array(counts, dtype=np.int64).reshape(-1, kinds)


def best_of_several(several: Float32, items: Float32) -> Scores:
    """Return [B, N] the best cosine of [B, K, D] vectors per user with [N, D] items."""
    users, count, dimensions = several.shape
    scores = cosine_scores(several.reshape(users * count, dimensions), items)
    best: Scores = scores.reshape(users, count, len(items)).max(axis=1)
    return best


def window_batch(
    data: Interactions, windows: list[Int64], counts: Int64 | None = None
) -> WindowBatch:
    """Return the columns of windows given as positions of their events, oldest first; ``counts``
    is :func:`all_time` of the users."""
    offsets = np.zeros(len(windows) + 1, dtype=np.int64)
    np.cumsum([len(window) for window in windows], out=offsets[1:])
    events = np.concatenate(windows) if windows else np.zeros(0, dtype=np.int64)
    return WindowBatch(
        rows=data.rows[events],
        offsets=offsets,
        times_ms=data.times_ms[events],
        types=data.types[events],
        dwell_ms=data.dwell_ms[events],
        counts=counts,
    )
