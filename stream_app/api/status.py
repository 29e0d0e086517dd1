"""What a worker says of itself over the API."""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import NamedTuple

import msgspec
import psutil

from encoders.interface import EncoderInfo
from stream_app.api.item_space import ItemSpace
from stream_app.api.places import Place, Places
from stream_app.api.status_answers import (
    DeadLetters,
    LastDeadLetter,
    ModelStatus,
    PartitionStatus,
    Rates,
    Recovery,
    StageLatency,
    StatusAnswer,
    WorkerPlace,
)
from stream_app.api.user_vectors import UserVectors
from stream_app.burials import Burials
from stream_app.meters import Histogram
from stream_app.serving.inside import Inside
from stream_app.status import Counts

_SAMPLE_S = 1.0
_SAMPLES = 60


class _Sample(NamedTuple):
    at_s: float
    records: int
    updates: int
    dead_letters: int


class Sampler:
    """The counts once a second, for a minute: rates come of the differences."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._samples: collections.deque[_Sample] = collections.deque(maxlen=_SAMPLES + 1)

    def sample(self, now_s: float) -> None:
        """Take one."""
        counts = self._counts
        self._samples.append(
            _Sample(now_s, counts.records, counts.updates_published, counts.dead_letters)
        )

    def rates(self) -> Rates:
        """Return the rates between the samples, by the time that really passed."""
        samples = list(self._samples)
        events, updates, letters = [], [], []
        for before, after in itertools.pairwise(samples):
            passed_s = max(after.at_s - before.at_s, 1e-9)
            events.append(round((after.records - before.records) / passed_s, 3))
            updates.append(round((after.updates - before.updates) / passed_s, 3))
            letters.append(round((after.dead_letters - before.dead_letters) / passed_s, 3))
        return Rates(_SAMPLE_S, events, updates, letters)


class StatusPage:
    """Puts the status together when somebody asks for it."""

    def __init__(
        self,
        inside: Inside,
        burials: Burials,
        places: Places,
        items: ItemSpace,
        users: UserVectors,
    ) -> None:
        self._inside = inside
        self._burials = burials
        self._places = places
        self._items = items
        self._users = users
        self._process = psutil.Process()
        self._sampler = Sampler(inside.counts)

    async def watch(self) -> None:
        """Look once a second, for ever."""
        while True:
            self._sampler.sample(time.monotonic())
            await asyncio.sleep(_SAMPLE_S)

    def status(self) -> StatusAnswer:
        """Return what is true now."""
        inside = self._inside
        partitions = self._partitions()
        parts, info = inside.parts(), inside.encoder_process.info
        return StatusAnswer(
            worker=self._places.own,
            state=inside.state(),
            version=version("interest-stream"),
            time_ms=int(time.time() * 1000),
            started_ms=int(inside.meters.started_s * 1000),
            model=None if info is None else _model(info),
            counts=msgspec.to_builtins(inside.counts),
            rates=self._sampler.rates(),
            partitions=partitions,
            lag=sum(each.lag for each in partitions),
            latency=latencies(inside.meters.stages),
            dead_letters=self._dead_letters(),
            workers=self.workers(),
            recovery=self._recovery(),
            users_hot=sum(each.users_hot for each in partitions),
            users_held=self._users.held,
            items_known=0 if parts is None else parts.catalogue.known,
            items_held=self._items.held,
            loop_lag_ms_p99=inside.loop_lag.percentile_ms(0.99),
            memory_bytes=self._process.memory_info().rss,
        )

    def workers(self) -> list[WorkerPlace]:
        """Return the members of the group."""
        return [self.place(place) for place in self._places.everybody()]

    def place(self, place: Place) -> WorkerPlace:
        """Return a member of the group as an answer has it."""
        url = place.url if place.serves_api else None
        return WorkerPlace(url, list(place.partitions), place.url == self._places.own)

    def _partitions(self) -> list[PartitionStatus]:
        lags = self._inside.lag.records()
        found = []
        for number, partition in sorted(self._inside.holding.partitions.items()):
            lag = lags.get(number)
            found.append(
                PartitionStatus(
                    number,
                    partition.last_offset,
                    None if lag is None else partition.last_offset + 1 + lag,
                    lag or 0,
                    len(partition.hot),
                    len(partition.dirty),
                    len(partition.taken),
                )
            )
        return found

    def _dead_letters(self) -> DeadLetters:
        counted = self._inside.meters.dead_letters
        by_reason = {reason: count for reason, count in counted.items() if count}
        last = [LastDeadLetter(*letter) for letter in reversed(self._burials.last)]
        return DeadLetters(sum(by_reason.values()), by_reason, last)

    def _recovery(self) -> Recovery:
        app = self._inside.app
        remaining = self._inside.recovery_remaining()
        return Recovery(
            app.recovering,
            int(app.recovery_started_s * 1000) if app.recovering else None,
            {str(number): left for number, left in sorted(remaining.items())},
        )


def latencies(stages: Mapping[str, Histogram]) -> list[StageLatency]:
    """Return the latency of every stage that has been timed."""
    found = []
    for stage, histogram in stages.items():
        count = histogram.cumulative()[-1]
        if count:
            p50_ms, p99_ms = (round(histogram.quantile(share) * 1000, 3) for share in (0.5, 0.99))
            found.append(StageLatency(stage, count, p50_ms, p99_ms))
    return found


def _model(info: EncoderInfo) -> ModelStatus:
    return ModelStatus(
        model_id=info.model_id,
        dimensions=info.dimensions,
        backend=info.backend,
        device=info.device,
        weights=dict(zip(info.granularities, info.weights, strict=True)),
    )
