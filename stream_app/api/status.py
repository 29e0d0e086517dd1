"""What a worker says of itself over the API."""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
from importlib.metadata import version
from typing import NamedTuple

import msgspec
import psutil
from faust.types import TP

from encoders.interface import EncoderInfo
from stream_app.api.item_space import ItemSpace
from stream_app.api.places import Place, Places
from stream_app.api.sources import Sources
from stream_app.api.status_answers import (
    DeadLetters,
    LastDeadLetter,
    ModelStatus,
    PartitionStatus,
    Rates,
    Recovery,
    StatusAnswer,
    WorkerPlace,
)
from stream_app.api.user_vectors import UserVectors
from stream_app.delivery import recovery_remaining
from stream_app.status import Counts

_SAMPLE_S = 1.0
_SAMPLES = 60
_RECOVERING = frozenset({"starting", "rebalancing"})


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
        self, sources: Sources, places: Places, items: ItemSpace, users: UserVectors
    ) -> None:
        self._sources = sources
        self._places = places
        self._items = items
        self._users = users
        self._process = psutil.Process()
        self._started_ms = int(time.time() * 1000)
        self._recovering_since_ms: int | None = self._started_ms
        self._sampler = Sampler(sources.counts)

    async def watch(self) -> None:
        """Look once a second, for ever."""
        while True:
            self._sampler.sample(time.monotonic())
            self._note_recovery()
            await asyncio.sleep(_SAMPLE_S)

    def status(self) -> StatusAnswer:
        """Return what is true now."""
        described = self._sources.describe()
        partitions = self._partitions()
        joined = self._sources.joined()
        return StatusAnswer(
            worker=self._places.own,
            state=described["state"],
            version=version("interest-stream"),
            time_ms=int(time.time() * 1000),
            started_ms=self._started_ms,
            model=None if joined is None else _model(joined[1]),
            counts=msgspec.to_builtins(self._sources.counts),
            rates=self._sampler.rates(),
            partitions=partitions,
            lag=sum(each.lag for each in partitions),
            latency=[],
            dead_letters=self._dead_letters(),
            workers=self.workers(),
            recovery=self._recovery(),
            users_hot=described["users_hot"],
            users_held=self._users.held,
            items_known=described["items_known"],
            items_held=self._items.held,
            loop_lag_ms_p99=described["loop_lag_ms_p99"],
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
        topic = self._sources.settings.events_topic
        ends = self._sources.app.monitor.tp_end_offsets
        found = []
        for number, partition in sorted(self._sources.holding.partitions.items()):
            end = ends.get(TP(topic, number))
            lag = 0 if end is None else max(0, end - 1 - partition.last_offset)
            found.append(
                PartitionStatus(
                    number,
                    partition.last_offset,
                    end,
                    lag,
                    len(partition.hot),
                    len(partition.dirty),
                    len(partition.taken),
                )
            )
        return found

    def _dead_letters(self) -> DeadLetters:
        burials = self._sources.burials
        by_reason = dict(burials.by_reason)
        last = [LastDeadLetter(*letter) for letter in reversed(burials.last)]
        return DeadLetters(sum(by_reason.values()), by_reason, last)

    def _note_recovery(self) -> bool:
        recovering = self._sources.state() in _RECOVERING
        if not recovering:
            self._recovering_since_ms = None
        elif self._recovering_since_ms is None:
            self._recovering_since_ms = int(time.time() * 1000)
        return recovering

    def _recovery(self) -> Recovery:
        active = self._note_recovery()
        remaining = recovery_remaining(self._sources.app) if active else {}
        by_partition = {str(number): left for number, left in remaining.items()}
        return Recovery(active, self._recovering_since_ms, by_partition)


def _model(info: EncoderInfo) -> ModelStatus:
    return ModelStatus(
        model_id=info.model_id,
        dimensions=info.dimensions,
        backend=info.backend,
        device=info.device,
        weights=dict(zip(info.granularities, info.weights, strict=True)),
    )
