"""From scores to ranks to metrics. Whatever is doubtful counts against the model.

Legend: Q questions (a user and the item that came next), N items of the catalogue, K a cut-off.

Three rules make a broken model score zero rather than look good. An item that ties with the
target stands before it. A score that is not a number stands before the target, and a target whose
own score is not a number stands behind all. A target that beats no candidate at all is not found,
at whatever place that is: so constant scores are worth nothing even in a catalogue of five.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.interface import Int32, Int64

Float64 = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating]

CUTS = (10, 20)
NOT_FOUND = np.iinfo(np.int64).max
"""The rank of a target that beats nobody."""


@dataclass(frozen=True)
class Ranks:
    """Where each target stood among its candidates."""

    ranks: Int64
    """[Q] how many candidates stand before the target: 0 is the best; ``NOT_FOUND``."""
    beaten: Int64
    """[Q] how many candidates stand behind it."""
    candidates: Int64
    """[Q] how many there were besides the target."""

    def __len__(self) -> int:
        return len(self.ranks)


def ranks_of(scores: Scores, targets: Int64, excluded: Sequence[Int64]) -> Ranks:
    """Return the ranks of ``targets`` [Q] by ``scores`` [Q, N].

    ``excluded`` holds, per question, the distinct items that are no candidates (those the user
    has seen). The target must not be among them.

    Raises:
        ValueError: shapes do not fit, or a target is excluded from its own question.
    """
    if scores.ndim != 2 or len(targets) != len(scores) or len(excluded) != len(scores):
        raise ValueError(
            f"scores {scores.shape}, {len(targets)} targets and {len(excluded)} exclusions "
            "do not fit together"
        )
    questions = np.arange(len(scores))
    own = scores[questions, targets][:, None]
    behind = scores < own  # False for anything that is not a number, on either side
    beaten = behind.sum(axis=1, dtype=np.int64)
    seen = np.array([len(items) for items in excluded], dtype=np.int64)
    for question, items in enumerate(excluded):
        if np.any(items == targets[question]):
            raise ValueError(f"question {question}: its target {targets[question]} is excluded")
        beaten[question] -= np.count_nonzero(behind[question, items])
    candidates = scores.shape[1] - seen - 1
    ranks = np.where(beaten > 0, candidates - beaten, NOT_FOUND)
    return Ranks(ranks, beaten, candidates)


def joined(parts: Sequence[Ranks]) -> Ranks:
    """Return the ranks of several batches as one."""
    return Ranks(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.beaten for part in parts]),
        np.concatenate([part.candidates for part in parts]),
    )


def by_question(ranks: Ranks, cuts: Sequence[int] = CUTS) -> dict[str, Float64]:
    """Return [Q] values per metric, to be averaged: recall, NDCG and MRR at each cut, and AUC.

    With one target, recall@K is the hit rate, NDCG@K is 1 / log2(rank + 2), MRR@K is 1 / (rank
    + 1), both zero from K on, with rank counted from 0 (Krichene and Rendle 2020, section 2). AUC
    is the share of candidates behind the target; 0 where there is no candidate.
    """
    found = np.where(ranks.ranks == NOT_FOUND, 0, ranks.ranks).astype(np.float64)
    values: dict[str, Float64] = {}
    for cut in cuts:
        hit = ranks.ranks < cut
        values[f"recall@{cut}"] = hit.astype(np.float64)
        values[f"ndcg@{cut}"] = np.where(hit, 1.0 / np.log2(found + 2.0), 0.0)
        values[f"mrr@{cut}"] = np.where(hit, 1.0 / (found + 1.0), 0.0)
    values["auc"] = ranks.beaten / np.maximum(ranks.candidates, 1)
    return values


def recommended(scores: Scores, excluded: Sequence[Int64], cut: int = 10) -> npt.NDArray[np.bool_]:
    """Return [Q, N] whether an item is among the ``cut`` best candidates of a question.

    An item that ties with one behind the cut is left out, so that equal scores recommend nothing
    and no order of the catalogue decides; so are scores that are not numbers.
    """
    usable = np.where(np.isnan(scores), -np.inf, scores)
    for question, items in enumerate(excluded):
        usable[question, items] = -np.inf
    places = usable.shape[1]
    at = np.array([min(cut, max(places - len(items) - 1, 0)) for items in excluded], dtype=int)
    edge = np.empty((len(usable), 1), dtype=usable.dtype)
    for place in np.unique(at):
        which = at == place
        kth = places - 1 - place
        edge[which, 0] = np.partition(usable[which], kth, axis=1)[:, kth]
    best: npt.NDArray[np.bool_] = usable > edge
    return best


def listed(chosen: npt.NDArray[np.bool_], cut: int = 10) -> Int32:
    """Return [Q, cut] the items of :func:`recommended`'s mask, -1 where there are fewer."""
    lists = np.full((len(chosen), cut), -1, dtype=np.int32)
    questions, items = np.nonzero(chosen)
    counts = np.bincount(questions, minlength=len(chosen))
    places = np.arange(len(questions)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists[questions, places] = items
    return lists


def coverage(ever_recommended: npt.NDArray[np.bool_]) -> float:
    """Return the share of the catalogue, [N], that was recommended to anybody."""
    return float(ever_recommended.mean()) if len(ever_recommended) else 0.0
