"""How two models place the same users or items, whatever spaces they place them in. Pure numpy.

Legend: N users (or items), D and E dimensions of the two models, Q of the N that are asked about.
Nothing here needs D = E, or that the two spaces have anything to do with each other: compared is
who is near whom. Cosines between the models themselves mean something only where the spaces are
the same, or after a rotation has laid one onto the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.interface import Float32

NEIGHBOURS = 10
_ASKED_MAX = 10_000
"""Users whose neighbours are looked for, among all: half a minute for so many among 20,000."""
_PAIRED_MAX = 700
"""Users whose similarities to each other are ranked: 245,000 pairs."""
_BLOCK = 256

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A distribution in a few numbers."""

    mean: float
    low: float
    """One in a hundred is lower."""
    median: float
    high: float
    """One in a hundred is higher."""

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> Spread:
        """Return the spread of some values."""
        low, median, high = np.quantile(values, (0.01, 0.5, 0.99))
        return cls(float(values.mean()), float(low), float(median), float(high))


@dataclass(frozen=True)
class Drift:
    """Two models on the same users or items."""

    compared: int
    """N, without those who have a zero vector in either."""
    zero: tuple[int, int]
    """How many have a zero vector in the one and in the other."""
    norms: tuple[Spread, Spread]
    lengths: tuple[Float64, Float64]
    """[N] each: norms of the vectors compared."""
    asked: npt.NDArray[np.int64]
    """[Q] places, among the compared, of those whose neighbours were looked for."""
    kept: Float64
    """[Q] share of the 10 nearest that are among the other model's 10 nearest."""
    jaccard: Float64
    """[Q] of the two sets of 10: common by all."""
    kept_by_chance: float
    rank_correlation: float
    """Spearman's, of the similarities of all pairs (RSA)."""
    cka: float
    """Linear centred kernel alignment (Kornblith et al. 2019): 1 for a rotation and a scale."""
    cosine: Float64 | None
    """[N] between the models, as the vectors are; None where the spaces are not the same."""
    aligned: Float64
    """[N] cosine after the orthogonal map that fits best (Procrustes); each user's map is fitted on
    the other half of the users, or it would find an order where there is none."""


def places(rows: Float32) -> npt.NDArray[np.bool_]:
    """Return [N] who has a vector that is not zero."""
    return np.asarray(rows.any(axis=1))


def drift(one: Float32, other: Float32, *, same_space: bool, seed: int = 0) -> Drift | None:
    """Compare [N, D] and [N, E], row by row the same users; None for fewer than 3 of them.

    ``same_space``: the two models' vectors may be compared as they are.
    """
    both = places(one) & places(other)
    if both.sum() < 3:
        return None
    zero = (int((~places(one)).sum()), int((~places(other)).sum()))
    norms = tuple(Spread.of(np.linalg.norm(rows, axis=1)) for rows in (one, other))
    lengths = tuple(np.linalg.norm(rows[both].astype(np.float64), axis=1) for rows in (one, other))
    left, right = (_unit(rows[both]) for rows in (one, other))
    random = np.random.default_rng(seed)
    asked = np.sort(random.permutation(len(left))[:_ASKED_MAX])
    count = min(NEIGHBOURS, len(left) - 1)
    common = _common_neighbours(left, right, asked, count)
    paired = np.sort(random.permutation(len(left))[:_PAIRED_MAX])
    return Drift(
        compared=len(left),
        zero=zero,
        norms=(norms[0], norms[1]),
        lengths=(lengths[0], lengths[1]),
        asked=asked,
        kept=common / count,
        jaccard=common / (2 * count - common),
        kept_by_chance=count / (len(left) - 1),
        rank_correlation=_rank_correlation(*(_pairs(rows[paired]) for rows in (left, right))),
        cka=linear_cka(left, right),
        cosine=np.einsum("nd,nd->n", left, right) if same_space else None,
        aligned=_aligned(left, right, random.permutation(len(left))),
    )


def linear_cka(left: Float64, right: Float64) -> float:
    """Return linear CKA of [N, D] and [N, E]."""
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right)
    return float(np.linalg.norm(left.T @ right) ** 2 / scale) if scale else 0.0


def _unit(rows: Float32) -> Float64:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def _common_neighbours(
    left: Float64, right: Float64, asked: npt.NDArray[np.int64], count: int
) -> Float64:
    """Return [Q] how many of the ``count`` nearest are the same in both."""
    found = []
    for start in range(0, len(asked), _BLOCK):
        block = asked[start : start + _BLOCK]
        nearest = []
        for rows in (left, right):
            similar = rows[block] @ rows.T
            similar[np.arange(len(block)), block] = -np.inf
            nearest.append(np.argpartition(-similar, count - 1, axis=1)[:, :count])
        found += [len(np.intersect1d(*pair)) for pair in zip(*nearest, strict=True)]
    return np.array(found, np.float64)


def _pairs(rows: Float64) -> Float64:
    """Return the similarity of every pair once."""
    return np.asarray((rows @ rows.T)[np.triu_indices(len(rows), 1)])


def _rank_correlation(one: Float64, other: Float64) -> float:
    ranks, others = _ranks(one), _ranks(other)
    if not ranks.std() or not others.std():
        return 0.0
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: Float64) -> Float64:
    """Return each value's rank; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def _aligned(left: Float64, right: Float64, order: npt.NDArray[np.int64]) -> Float64:
    """Return [N] cosines after the best orthogonal map, fitted on the half one is not in."""
    width = max(left.shape[1], right.shape[1])
    left, right = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (left, right))
    cosines = np.empty(len(left))
    halves = np.array_split(order, 2)
    for fitted, judged in (halves, halves[::-1]):
        first, _, second = np.linalg.svd(left[fitted].T @ right[fitted])
        cosines[judged] = np.einsum("nd,nd->n", left[judged] @ (first @ second), right[judged])
    return cosines
