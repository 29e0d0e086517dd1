"""What a worker shows of its inside, read at the moment somebody asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

from stream_app.delivery import BatchApp, BatchConsumer, Commits, recovery_remaining
from stream_app.encoder_process import EncoderProcess
from stream_app.holding import Holding
from stream_app.lag import Lag
from stream_app.meters import Meters
from stream_app.parts import Parts
from stream_app.settings import Settings
from stream_app.status import Counts, LoopLag


class Inside(NamedTuple):
    """The parts of a worker that metrics, health and readiness are read from."""

    settings: Settings
    counts: Counts
    meters: Meters
    app: BatchApp
    holding: Holding
    encoder_process: EncoderProcess
    loop_lag: LoopLag
    lag: Lag
    state: Callable[[], str]
    parts: Callable[[], Parts | None]
    """None before they are joined."""

    def commits(self) -> Commits:
        """Return what the broker has confirmed of our commits."""
        return commits_of(self.app)

    def fetches_waiting(self) -> int:
        """Return how many fetches nobody has taken up yet."""
        return _consumer(self.app).fetches_waiting if _has_consumer(self.app) else 0

    def recovery_remaining(self) -> dict[int, int]:
        """Return the changelog records still to be read, by partition, while recovering."""
        return recovery_remaining(self.app) if self.app.recovering else {}

    def lease_lost_s(self) -> float | None:
        """Return the age of the last heartbeat once that is too old to write; None while not."""
        parts = self.parts()
        if parts is None or not self.holding.partitions or parts.lease.is_held():
            return None
        return time.monotonic() - _consumer(self.app).lease_renewed_at


def lag_of(app: BatchApp, holding: Holding, topic: str) -> Lag:
    """Return the lag of the partitions that a worker holds."""

    async def ends(numbers: Iterable[int]) -> Mapping[int, int]:
        return await _consumer(app).ends(numbers)

    def committed() -> dict[int, int]:
        offsets = commits_of(app).offsets
        return {tp.partition: offset for tp, offset in offsets.items() if tp.topic == topic}

    return Lag(holding.ours, committed, ends)


def commits_of(app: BatchApp) -> Commits:
    """Return what the broker has confirmed of an app's commits."""
    return _consumer(app).commits if _has_consumer(app) else Commits()


def _has_consumer(app: BatchApp) -> bool:
    """Whoever asks an app for its consumer makes one; it is there once it has an assignment."""
    return app.recovery_started_s > 0


def _consumer(app: BatchApp) -> BatchConsumer:
    return cast(BatchConsumer, app.consumer)
