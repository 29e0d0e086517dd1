"""Leave-last-out: each user's last new item is the question, everything before it the past.

Legend: Q questions, E events, H events of all pasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from encoders.evaluation.interactions import NO_ITEM, Interactions, first_times
from encoders.interface import Int64

Part = Literal["valid", "test"]

_BACK: dict[Part, int] = {"test": 1, "valid": 2}
"""Which of a user's new items is asked for, counted from the end."""


@dataclass(frozen=True)
class Questions:
    """Who is asked for what, knowing what. Positions are of events in ``data``."""

    data: Interactions
    """In time order."""
    users: Int64
    """[Q]"""
    targets: Int64
    """[Q] items."""
    asked_at: Int64
    """[Q] position of the event that is the answer; the past lies before it."""
    by_user: Int64
    """[E] positions sorted by user, then time: a user's past is a slice of it."""
    starts: Int64
    """[Q] where the user's events start in ``by_user``."""
    stops: Int64
    """[Q] where they reach the answer, which is outside."""
    training: npt.NDArray[np.bool_]
    """[E] events a model may be fitted on: of no user from the answer on."""

    def __len__(self) -> int:
        return len(self.users)

    def past(self, question: int) -> Int64:
        """Return the positions of the events before the answer, oldest first."""
        return self.by_user[self.starts[question] : self.stops[question]]

    def seen(self, question: int) -> Int64:
        """Return the distinct items of the past: none of them is a candidate."""
        items = self.data.items[self.past(question)]
        return np.unique(items[items != NO_ITEM])

    def blocks(self, size: int) -> Iterator[range]:
        """Yield the questions, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield range(start, min(start + size, len(self)))


def leave_last_out(
    data: Interactions, part: Part = "test", *, users: int | None = None, seed: int = 0
) -> Questions:
    """Return one question per user: their last new item (``valid``: the one before it).

    A target is always an item the user had not met; repetitions are past, never questions.
    Users with fewer than three different items are asked nothing, so that both parts ask the same
    users and each keeps a past; their events are trained on. ``users`` asks a sample of so many,
    drawn by the seed; the training events stay those of all.

    ``data`` must be in time order (:func:`encoders.evaluation.interactions.in_time_order`).

    Raises:
        ValueError: ``data`` is not in time order, or nobody has three items.
    """
    if np.any(np.diff(data.times_ms) < 0):
        raise ValueError("the events are not in time order")
    first = first_times(data)
    first = first[np.argsort(data.users[first], kind="stable")]
    counts = np.bincount(data.users[first], minlength=len(data.user_ids))
    asked = np.flatnonzero(counts >= 3)
    if not len(asked):
        raise ValueError("no user has three different items: there is nothing to ask")
    answers = first[np.cumsum(counts)[asked] - _BACK[part]]
    by_user = np.argsort(data.users, kind="stable")
    place = np.empty_like(by_user)
    place[by_user] = np.arange(len(by_user))
    ends = np.full(len(data.user_ids), len(data), dtype=np.int64)
    ends[asked] = answers
    training = np.arange(len(data)) < ends[data.users]
    chosen = np.arange(len(asked))
    if users is not None and users < len(asked):
        chosen = np.sort(np.random.default_rng(seed).choice(len(asked), users, replace=False))
    every = np.bincount(data.users, minlength=len(data.user_ids))
    starts = np.cumsum(every) - every
    return Questions(
        data=data,
        users=asked[chosen],
        targets=data.items[answers[chosen]],
        asked_at=answers[chosen],
        by_user=by_user,
        starts=starts[asked[chosen]],
        stops=place[answers[chosen]],
        training=training,
    )
