"""What is counted by label and what is timed, for ``/metrics``; totals without a label are Counts.

Nothing here is done once per event but one addition in the fold's own loop. A histogram takes an
observation with a weight: how many events it stands for.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from state.event import EventType
from state.window import Outcome
from stream_app.dead_letters import REASONS
from stream_app.stages import STAGES, Arrival, RoundTimes, stage_seconds

_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_LONG_SECONDS = (*_SECONDS, 300.0, 3600.0, 86_400.0)
"""An event from a backlog may have waited for days."""
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


class Histogram:
    """Counts observations by upper bound, each with a weight."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float, weight: int = 1) -> None:
        """Count ``value`` as ``weight`` observations."""
        self._counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    def cumulative(self) -> list[int]:
        """Return how many observations were at most each bound; last, how many there were."""
        return list(accumulate(self._counts))


Outcomes = dict[EventType, list[int]]
"""Event type -> how many events had each outcome, in the order of :class:`Outcome`."""

_NONE = [0] * len(Outcome)


def no_outcomes() -> Outcomes:
    """Return the counts of no event."""
    return {kind: [0] * len(Outcome) for kind in EventType}


class Meters:
    """Everything of a worker that is counted by label or timed."""

    def __init__(self) -> None:
        self.started_s = time.time()
        self.outcomes = no_outcomes()
        self.dead_letters = Counter(dict.fromkeys(REASONS, 0))
        """Acknowledged ones, by reason."""
        self.stages = {stage: Histogram(_LONG_SECONDS) for stage in STAGES}
        self.encoder = defaultdict[str, Histogram](lambda: Histogram(_SECONDS))
        """By request: ``texts``, ``interests``, ``item_vectors``, ``forgetting``."""
        self.checkpoint = Histogram(_SECONDS)
        self.changelog = Histogram(_SECONDS)
        self.record_batch_records = Histogram(_SIZES)
        self.micro_batch_users = Histogram(_SIZES)

    def folded(self, outcomes: Outcomes) -> list[int]:
        """Add the outcomes of some events; return how many of all types had each."""
        of_all = [0] * len(Outcome)
        for kind, counts in outcomes.items():
            if counts == _NONE:  # most types, in most slices
                continue
            totals = self.outcomes[kind]
            for outcome, count in enumerate(counts):
                totals[outcome] += count
                of_all[outcome] += count
        return of_all

    def buried(self, reasons: Iterable[str]) -> None:
        """Add dead letters that the broker has acknowledged."""
        self.dead_letters.update(reasons)

    def encoder_answered(self, request: str, seconds: float) -> None:
        """Add an answer of the encoder, or its lack of one."""
        self.encoder[request].observe(seconds)

    def published(
        self, arrivals: Iterable[Arrival], times: RoundTimes, acknowledged_s: float
    ) -> None:
        """Add the events whose users' updates have just been acknowledged."""
        for arrival in arrivals:
            spent = stage_seconds(arrival, times, acknowledged_s)
            for stage, seconds in zip(STAGES, spent, strict=True):
                self.stages[stage].observe(seconds, arrival.events)
