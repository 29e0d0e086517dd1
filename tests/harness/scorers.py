"""Models that are wrong on purpose, for the rules of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.evaluation.metrics import Scores
from encoders.evaluation.splits import Questions
from state.event import Event, EventType

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Fixed:
    """Gives every item of every question one score, but knows the answer where told to."""

    score: float
    of_target: float | None = None

    def scores(self, questions: Questions, block: range) -> Scores:
        found = np.full((len(block), len(questions.data.item_ids)), self.score)
        if self.of_target is not None:
            targets = questions.targets[block.start : block.stop]
            found[np.arange(len(block)), targets] = self.of_target
        return found


class FixedStream:
    """The same, following a stream."""

    def __init__(self, data: Interactions, score: float) -> None:
        self._count = len(data.item_ids)
        self._score = score

    def published(self, user: int) -> None:
        return None

    def apply(self, position: int) -> None:
        return None

    def scores(self, snapshots: Sequence[None]) -> Scores:
        return np.full((len(snapshots), self._count), self._score)


def events_of(*rows: tuple[str, str, int], kind: EventType = EventType.VIEW) -> list[Event]:
    """Return events of (user, item, time in ms), numbered."""
    return [
        Event(str(number), user, kind, item_id=item, time_ms=time_ms)
        for number, (user, item, time_ms) in enumerate(rows)
    ]


def world(*rows: tuple[str, str, int], items: str = "abcdef") -> Interactions:
    """Return the events in time order, ties as given, over items named by single letters."""
    catalogue = {name: f"the text of {name}" for name in items}
    return in_time_order(from_events(events_of(*rows), catalogue), order="file")
