"""How good a list of ten is besides the hit: diverse, calibrated, fair to the catalogue.

Legend: Q questions, K places of a list, N items, T dimensions of a text vector, C genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from encoders.evaluation.baselines import unit
from encoders.evaluation.interactions import NO_ITEM
from encoders.evaluation.metrics import Float64
from encoders.evaluation.ranking import Result
from encoders.interface import Float32, Int32, Int64

_SMOOTHING = 0.01
"""Steck's alpha (2018, section 3.1): a genre the list lacks costs much, and not infinitely much."""


def with_lists(
    result: Result, texts: Float32, histories: Sequence[Int64], shares: Float64
) -> Result:
    """Return ``result`` with two more values per question: diversity@10, miscalibration@10.

    ``texts`` [N, T] are the items' own text vectors, ``histories`` the items each user had met,
    ``shares`` [N, C] of :func:`genre_shares`; without genres there is no miscalibration.
    """
    more = {"diversity@10": diversity(result.lists, texts)}
    if shares.shape[1]:
        more["miscalibration@10"] = miscalibration(result.lists, histories, shares)
    return replace(result, values={**result.values, **more})


def diversity(lists: Int32, texts: Float32) -> Float64:
    """Return [Q] 1 - the mean cosine of all pairs of a list (Ziegler et al. 2005), on text vectors
    with the catalogue's mean taken off, whatever the model; 0 for a list of fewer than two."""
    own = unit(texts - texts.mean(axis=0))
    own = np.concatenate([own, np.zeros((1, own.shape[1]))])  # NO_ITEM is the last row
    found: Float64 = np.zeros(len(lists))
    for question, chosen in enumerate(lists):
        count = np.count_nonzero(chosen != NO_ITEM)
        if count > 1:
            held = own[chosen[chosen != NO_ITEM]]
            total = held.sum(axis=0)
            pairs = total @ total - (held * held).sum()
            found[question] = 1.0 - pairs / (count * (count - 1))
    return found


def miscalibration(lists: Int32, histories: Sequence[Int64], shares: Float64) -> Float64:
    """Return [Q] Kullback-Leibler divergence of a list's genres from the user's (Steck 2018,
    equations 2, 3 and 6), in nats: 0 is calibrated; an empty list is as far off as can be."""
    found: Float64 = np.zeros(len(lists))
    for question, (chosen, met) in enumerate(zip(lists, histories, strict=True)):
        past = _distribution(shares[met])
        given = _distribution(shares[chosen[chosen != NO_ITEM]])
        mixed = (1.0 - _SMOOTHING) * given + _SMOOTHING * past
        has = past > 0.0
        found[question] = float(np.sum(past[has] * np.log(past[has] / mixed[has])))
    return found


def genre_shares(genres: Sequence[Sequence[str]]) -> Float64:
    """Return [N, C] how much of each item is of each genre: 1 divided by its genres."""
    names = sorted({name for own in genres for name in own})
    place = {name: at for at, name in enumerate(names)}
    shares: Float64 = np.zeros((len(genres), len(names)))
    for item, own in enumerate(genres):
        for name in own:
            shares[item, place[name]] = 1.0 / len(own)
    return shares


def gini(exposure: npt.NDArray[np.integer]) -> float:
    """Return how unequally [N] recommendations are spread: 0 all items alike, 1 one has all.

    Nothing recommended at all counts as 1: what is doubtful counts against the model.
    """
    total = exposure.sum()
    if not total:
        return 1.0
    ranked = np.sort(exposure)
    count = len(ranked)
    return float((2 * np.arange(1, count + 1) - count - 1) @ ranked / (count * total))


def _distribution(shares: Float64) -> Float64:
    total = shares.sum(axis=0)
    whole: Float64 = total / total.sum() if total.sum() else total
    return whole
