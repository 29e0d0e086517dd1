"""What every model has to beat, in the same run on the same questions.

Legend: B questions of a block, E events, N items, R texts, T dimensions of a text vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.evaluation.interactions import NO_ITEM, Interactions
from encoders.evaluation.metrics import Float64, Scores
from encoders.evaluation.ranking import cosine_scores
from encoders.evaluation.splits import Questions
from encoders.interface import Float32, Int64

RECENT_MS = 30 * 86_400_000
MOST_KNN_ITEMS = 20_000
"""Item-kNN holds N x N float32: at this many, 1.6 GB."""
_COUNTED_USERS = 512
"""Users whose items are multiplied at once: 8 MB for a catalogue of 4,000."""


class TooManyItems(ValueError):
    """The catalogue is too large for this baseline."""


class Random:
    """Independent random scores: the floor. The same seed gives the same, whatever the blocks."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] uniform numbers."""
        count = len(questions.data.item_ids)
        drawn = [
            np.random.default_rng((self._seed, int(user))).random(count)
            for user in questions.users[block.start : block.stop]
        ]
        return np.stack(drawn)


class Popularity:
    """How often anybody met an item in the training events."""

    def __init__(self, questions: Questions) -> None:
        self._counts = item_counts(questions.data, np.flatnonzero(questions.training))

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] the counts, for everybody the same."""
        return np.broadcast_to(self._counts, (len(block), len(self._counts)))


class RecentPopularity:
    """How often anybody met an item in the 30 days before the question was asked."""

    def __init__(self, questions: Questions, span_ms: int = RECENT_MS) -> None:
        self._positions = np.flatnonzero(questions.training)
        self._times_ms = questions.data.times_ms[self._positions]
        self._span_ms = span_ms

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] the counts before each question's own time."""
        asked_ms = questions.data.times_ms[questions.asked_at[block.start : block.stop]]
        first = np.searchsorted(self._times_ms, asked_ms - self._span_ms)
        last = np.searchsorted(self._times_ms, asked_ms)
        return np.stack(
            [
                item_counts(questions.data, self._positions[start:stop])
                for start, stop in zip(first, last, strict=True)
            ]
        )


class ItemKnn:
    """Items that the same users met: cosine of the item columns (Sarwar et al. 2001).

    The score of an item is the sum of its similarities to the user's last ``recent`` items, each
    counting half as much ``half_life`` items further back (0: all the same).
    """

    def __init__(self, questions: Questions, recent: int = 50, half_life: float = 0.0) -> None:
        self.similar = similarities(questions.data, np.flatnonzero(questions.training))
        self._recent = recent
        self._half_life = half_life

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] sums of similarities."""
        profile = np.zeros((len(block), len(self.similar)), dtype=np.float32)
        for line, question in enumerate(block):
            items = questions.data.items[questions.past(question)]
            items = items[items != NO_ITEM][-self._recent :]
            np.maximum.at(profile[line], items, decay(len(items), self._half_life))
        return profile @ self.similar


class MeanVector:
    """The mean text vector of the window against the items' text vectors, by cosine.

    ``centred`` subtracts the catalogue's mean text from every text first; ``half_life_events``
    lets an event that many places behind the newest count half. Both together are the untrained
    interest model (docs/decisions/0012), computed here without it.
    """

    def __init__(
        self,
        vectors: Float32,
        item_count: int,
        *,
        centred: bool = False,
        half_life_events: float = 0.0,
        window_events: int = 50,
    ) -> None:
        """``vectors`` is [R, T], zero where a text has none; the first ``item_count`` are items."""
        self._known: npt.NDArray[np.bool_] = np.any(vectors != 0.0, axis=1)
        items = vectors[:item_count]
        told = self._known[:item_count]
        centre = items[told].mean(axis=0) if centred and told.any() else np.zeros_like(vectors[0])
        self._vectors = np.where(self._known[:, None], vectors - centre, 0.0)
        self._items = unit(self._vectors[:item_count])
        self._half_life = half_life_events
        self._window = window_events

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] cosines."""
        rows = [questions.data.rows[questions.past(question)] for question in block]
        return self.of_rows(rows)

    def of_rows(self, windows: Sequence[npt.NDArray[np.signedinteger]]) -> Scores:
        """Return [B, N] cosines of windows given as rows of texts, oldest first."""
        profile = np.zeros((len(windows), self._vectors.shape[1]))
        for line, rows in enumerate(windows):
            held = rows[-self._window :]
            held = held[held >= 0]
            held = held[self._known[held]]
            profile[line] = decay(len(held), self._half_life) @ self._vectors[held]
        return cosine_scores(unit(profile), self._items)


def item_counts(data: Interactions, positions: Int64) -> Int64:
    """Return [N] how many of the events at ``positions`` are of each item."""
    items = data.items[positions]
    return np.bincount(items[items != NO_ITEM], minlength=len(data.item_ids))


def similarities(data: Interactions, positions: Int64) -> Float32:
    """Return [N, N] cosines between items' columns of users who met them; zero with itself.

    Raises:
        TooManyItems: more than ``MOST_KNN_ITEMS`` items.
    """
    count = len(data.item_ids)
    if count > MOST_KNN_ITEMS:
        raise TooManyItems(
            f"item-kNN takes up to {MOST_KNN_ITEMS} items, the catalogue has {count}"
        )
    positions = positions[data.items[positions] != NO_ITEM]
    users, items = data.users[positions], data.items[positions]
    together = np.zeros((count, count), dtype=np.float32)
    for start in range(0, len(data.user_ids), _COUNTED_USERS):
        chosen = (users >= start) & (users < start + _COUNTED_USERS)
        met = np.zeros((_COUNTED_USERS, count), dtype=np.float32)
        met[users[chosen] - start, items[chosen]] = 1.0
        together += met.T @ met
    lengths = np.sqrt(np.maximum(np.diagonal(together), 1.0))
    together /= lengths[:, None] * lengths[None, :]
    np.fill_diagonal(together, 0.0)
    return together


def decay(count: int, half_life: float) -> Float64:
    """Return [count] weights, the newest last: 1 for it, halved every ``half_life`` places."""
    if half_life == 0.0:
        return np.ones(count)
    weights: Float64 = 2.0 ** (-np.arange(count - 1, -1, -1) / half_life)
    return weights


def unit(vectors: Float64 | Float32) -> Float64:
    """Scale rows to length 1; what is negligible (the rounding of a centring) becomes zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float64 = np.where(norms > 1e-5, vectors / np.maximum(norms, 1e-5), 0.0)
    return scaled
