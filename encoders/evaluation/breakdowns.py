"""For whom and for what a model is good: labels of questions, and metrics per label.

Legend: Q questions, U users, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.evaluation.bootstrap import Estimate, estimates
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.ranking import Result
from encoders.interface import Int64

Labels = npt.NDArray[np.str_]

COLD_BELOW = 5
"""An item met fewer times than this in training is cold: the k-core that published splits drop."""
_LENGTHS = (20, 50, 100, 200)
"""Ends of the bins of past lengths: MovieLens-1M starts at 20, a window holds 50."""


@dataclass(frozen=True)
class Part:
    """The metrics of the questions that carry one label."""

    label: str
    questions: int
    metrics: dict[str, Estimate]


def breakdown(result: Result, labels: Labels, metrics: Sequence[str], *, seed: int) -> list[Part]:
    """Return one part per label of ``labels`` [Q], in alphabetical order.

    Raises:
        ValueError: there is not one label per question.
    """
    if len(labels) != len(result.users):
        raise ValueError(f"{len(labels)} labels for {len(result.users)} questions")
    parts = []
    for label in np.unique(labels):
        which = labels == label
        values = {name: result.values[name][which] for name in metrics}
        measured = estimates(values, result.users[which], seed=seed)
        parts.append(Part(str(label), int(which.sum()), measured))
    return parts


def by_popularity(targets: Int64, counts: Int64) -> Labels:
    """Return [Q] how popular each target is: head, middle, tail or cold.

    ``counts`` [N] are of training events. The most popular items that hold a third of all events
    are the head, those that hold the next third the middle; items below ``COLD_BELOW`` are cold.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate(([0], np.cumsum(counts[order])[:-1]))
    of_items = np.empty(len(counts), dtype="<U8")
    of_items[order] = np.array(["1 head", "2 middle", "3 tail"])[
        np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    ]
    of_items[counts < COLD_BELOW] = "4 cold"
    labels: Labels = of_items[targets]
    return labels


def by_length(lengths: Int64) -> Labels:
    """Return [Q] the bin of each past's length in events."""
    starts = (1, *_LENGTHS)
    names = [f"{start:03d}-{end - 1:03d}" for start, end in zip(starts, _LENGTHS, strict=False)]
    labels: Labels = np.array([*names, f"{_LENGTHS[-1]:03d}+"])[np.digitize(lengths, _LENGTHS)]
    return labels


def by_activity(lengths: Int64) -> Labels:
    """Return [Q] thirds of the asked users by how much they did before."""
    ends = np.quantile(lengths, (1 / 3, 2 / 3)) if len(lengths) else (0.0, 0.0)
    names = np.array(["1 least active third", "2 middle third", "3 most active third"])
    labels: Labels = names[np.digitize(lengths, ends)]
    return labels


def by_groups(data: Interactions, users: Int64) -> Mapping[str, Labels]:
    """Return [Q] the value of every attribute that the data has of its users."""
    return {name: np.array(values)[users] for name, values in data.groups.items() if values}
