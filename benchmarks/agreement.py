"""Did they all do the same job? The last updates of a run against a plain Python loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka import ConsumerRecord

from benchmarks.job import Job
from benchmarks.workload import Record
from state.event import Event
from state.window import Window
from stream_app import updates

_MAX_USERS = 300
_TOLERANCE = 1e-5
"""Sums of 50 float32 products in another order differ in the seventh digit."""


@dataclass(frozen=True)
class Agreement:
    """How many of the updates looked at are what they should be."""

    checked: int
    wrong: int
    largest_difference: float


class Reference:
    """The events of the busiest users of a topic, with their offsets, for windows of any moment."""

    def __init__(self, records: Iterable[Record], job: Job) -> None:
        self._job = job
        self._events: defaultdict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        offsets: defaultdict[int, int] = defaultdict(int)
        for record in records:
            self._events[record.key].append((offsets[record.partition], record.value))
            offsets[record.partition] += 1

    def check(self, tail: list[ConsumerRecord]) -> Agreement:
        """Compare up to 300 users' updates; ``tail`` is what a run published last."""
        latest = {record.key: record.value for record in tail}
        wrong = 0
        largest = 0.0
        chosen = list(latest.items())[:: max(1, len(latest) // _MAX_USERS)]
        for key, value in chosen:
            update = updates.decode(value)
            window = self._window(key, update.applied_offset)
            expected = self._job.vector(window)
            difference = float(np.abs(expected - np.array(update.vector)).max())
            largest = max(largest, difference)
            facts = (window.applied_offset, len(window), window.times_ms[-1])
            found = (update.applied_offset, update.event_count, update.time_ms)
            wrong += difference > _TOLERANCE or facts != found
        return Agreement(len(chosen), wrong, largest)

    def _window(self, key: bytes, applied_offset: int) -> Window:
        window: Window | None = None
        for offset, value in self._events[key]:
            if offset > applied_offset:
                break
            event: Event = self._job.event(key, value, 2**62)
            window = self._job.fold(window, event, offset)
        if window is None:
            raise ValueError(f"an update of {key!r}, who had no event by offset {applied_offset}")
        return window


def summary(agreement: Agreement) -> dict[str, Any]:
    """Return the figures for the JSON."""
    return {
        "checked": agreement.checked,
        "wrong": agreement.wrong,
        "largest_difference": agreement.largest_difference,
    }
