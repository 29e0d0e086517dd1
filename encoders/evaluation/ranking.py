"""Ask a scorer all questions of a split, a block of users at a time.

Legend: Q questions, B of one block, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoders.evaluation.interactions import NO_ITEM
from encoders.evaluation.metrics import (
    Float64,
    Ranks,
    Scores,
    by_question,
    coverage,
    joined,
    listed,
    ranks_of,
    recommended,
)
from encoders.evaluation.splits import Questions
from encoders.interface import Int32, Int64

BLOCK_USERS = 256
"""Scores of 256 users over 4,000 items are 4 MB: they stay in a CPU's cache while ranked."""

Progress = Callable[[int, int], None]
"""Called with questions done and questions in all."""


class Scorer(Protocol):
    """Anything that can say how likely each item is to come next."""

    def scores(self, questions: Questions, block: range) -> Scores:
        """Return [B, N]; of the future of a question nothing may be read."""


@dataclass(frozen=True)
class Result:
    """What came of asking one scorer."""

    users: Int64
    """[Q] whose question each is."""
    targets: Int64
    """[Q]"""
    ranks: Ranks
    values: dict[str, Float64]
    """[Q] per metric."""
    lists: Int32
    """[Q, 10] what was recommended, in no order; ``NO_ITEM`` where fewer were."""
    items: int
    """N"""

    @property
    def exposure(self) -> Int64:
        """[N] in how many lists of ten each item stood."""
        return np.bincount(self.lists[self.lists != NO_ITEM], minlength=self.items)

    @property
    def coverage(self) -> float:
        """Share of the catalogue that was recommended to anybody."""
        return coverage(self.exposure > 0)

    @classmethod
    def of(cls, users: Int64, targets: Int64, ranks: Ranks, lists: Int32, items: int) -> Result:
        """Return the result with its metrics worked out."""
        return cls(users, targets, ranks, by_question(ranks), lists, items)


def ask(
    scorer: Scorer,
    questions: Questions,
    seen: Sequence[Int64] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Return how well ``scorer`` ranks the targets among all items that the user has not seen.

    ``seen`` is :func:`seen_items` of the same questions, for callers that ask many scorers.
    """
    seen = seen_items(questions) if seen is None else seen
    parts, lists = [], []
    for block in questions.blocks(BLOCK_USERS):
        scores = scorer.scores(questions, block)
        excluded = seen[block.start : block.stop]
        parts.append(ranks_of(scores, questions.targets[block.start : block.stop], excluded))
        lists.append(listed(recommended(scores, excluded)))
        if progress:
            progress(block.stop, len(questions))
    return Result.of(
        questions.users,
        questions.targets,
        joined(parts),
        np.concatenate(lists),
        len(questions.data.item_ids),
    )


def seen_items(questions: Questions) -> list[Int64]:
    """Return, per question, the distinct items of the user's past."""
    return [questions.seen(question) for question in range(len(questions))]


def cosine_scores(users: npt.NDArray[np.floating], items: npt.NDArray[np.floating]) -> Scores:
    """Return [B, N] products of unit vectors, rounded to a millionth.

    The same item twice in a catalogue must tie with itself, but a matrix product may compute two
    equal columns by two kernels that differ in the last bits; float32 has seven digits.
    """
    scores: Scores = np.round(users @ items.T, 6)
    return scores
