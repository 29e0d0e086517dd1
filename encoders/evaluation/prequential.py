"""Test, then train: before each event, rank with what was published before it (Gama et al. 2013).

Nothing that happens at or after an event can reach its question: the question is put with a
snapshot taken before the event is applied, and a snapshot never changes.

Legend: E events, Q questions, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from encoders.evaluation.interactions import NO_ITEM, Interactions
from encoders.evaluation.metrics import Ranks, Scores, joined, listed, ranks_of, recommended
from encoders.evaluation.ranking import Progress, Result
from encoders.interface import Int32, Int64

Snapshot = TypeVar("Snapshot")

_BATCH_QUESTIONS = 256
"""Questions ranked at once: 4 MB of scores for a catalogue of 4,000."""


class Stream(Protocol[Snapshot]):
    """A model that follows the stream. It is told of events, and of those only, one by one."""

    def published(self, user: int) -> Snapshot:
        """Return what is published for this user now. The value must not change afterwards."""

    def apply(self, position: int) -> None:
        """Take up the event at this position of the data."""

    def scores(self, snapshots: Sequence[Snapshot]) -> Scores:
        """Return [Q, N] by snapshots alone, whatever has been applied since."""


@dataclass
class _Open(Generic[Snapshot]):
    """Questions put but not ranked yet."""

    users: list[int]
    targets: list[int]
    seen: list[Int64]
    snapshots: list[Snapshot]


def replay(
    data: Interactions,
    stream: Stream[Snapshot],
    *,
    start: int,
    users: frozenset[int] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Return how well each new item from position ``start`` on was ranked before it was met.

    A question is the first meeting of a user with an item; candidates are all items the user has
    not met before. Events before ``start`` are applied without a question. ``users`` asks these
    only, and still applies the events of all.

    Raises:
        ValueError: the events are not in time order, or there is nothing to ask.
    """
    if np.any(np.diff(data.times_ms) < 0):
        raise ValueError("the events are not in time order")
    met: dict[int, dict[int, None]] = {}
    waiting: _Open[Snapshot] = _Open([], [], [], [])
    parts: list[tuple[Int64, Int64, Ranks, Int32]] = []
    columns = zip(data.users.tolist(), data.items.tolist(), strict=True)
    for position, (user, item) in enumerate(columns):
        seen = met.setdefault(user, {})
        is_new = item != NO_ITEM and item not in seen
        if is_new and position >= start and (users is None or user in users):
            waiting.users.append(user)
            waiting.targets.append(item)
            waiting.seen.append(np.fromiter(seen, dtype=np.int64, count=len(seen)))
            waiting.snapshots.append(stream.published(user))
        stream.apply(position)
        if is_new:
            seen[item] = None
        if len(waiting.users) == _BATCH_QUESTIONS or position == len(data) - 1:
            if waiting.users:
                parts.append(_ranked(stream, waiting))
                waiting = _Open([], [], [], [])
            if progress:
                progress(position + 1, len(data))
    if not parts:
        raise ValueError(f"no user meets a new item from event {start} on: nothing to ask")
    return Result.of(
        np.concatenate([asked for asked, _, _, _ in parts]),
        np.concatenate([targets for _, targets, _, _ in parts]),
        joined([ranks for _, _, ranks, _ in parts]),
        np.concatenate([lists for _, _, _, lists in parts]),
        len(data.item_ids),
    )


def _ranked(
    stream: Stream[Snapshot], waiting: _Open[Snapshot]
) -> tuple[Int64, Int64, Ranks, Int32]:
    """Users, targets, ranks and lists of what was waiting."""
    scores = stream.scores(waiting.snapshots)
    targets = np.array(waiting.targets, dtype=np.int64)
    ranks = ranks_of(scores, targets, waiting.seen)
    lists = listed(recommended(scores, waiting.seen))
    return np.array(waiting.users, dtype=np.int64), targets, ranks, lists


def start_of_test(data: Interactions, share: float) -> int:
    """Return the position from which on the last ``share`` of the events is the test period.

    Events of one millisecond are never divided: the period starts with the first of them.

    Raises:
        ValueError: ``share`` is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"the test period must be a share between 0 and 1, is {share}")
    cut = min(int(len(data) * (1.0 - share)), len(data) - 1)
    return int(np.searchsorted(data.times_ms, data.times_ms[cut]))
