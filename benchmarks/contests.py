"""Which contests there are, in which order, and the topics and folders each run gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aiokafka.partitioner import murmur2

from benchmarks import latency, throughput
from benchmarks.broker import Broker
from benchmarks.contestants import OURS, Contestant, ours
from benchmarks.job import Run
from benchmarks.latency import Latency, Pace
from benchmarks.prepare import Prepared
from benchmarks.throughput import Throughput
from benchmarks.workload import Record, Workload
from stream_app import settings, topics

_ITEMS_TOPIC = "bench.items"


@dataclass
class Hall:
    """One broker, one catalogue, one folder; every contest happens in here."""

    broker: Broker
    prepared: Prepared
    directory: Path
    partitions: int

    def __post_init__(self) -> None:
        self._numbers = count(1)

    async def publish_items(self, workload: Workload) -> None:
        """Publish the catalogue that our worker reads."""
        await self.broker.create([_ITEMS_TOPIC], self.partitions)
        await self.broker.fill(_ITEMS_TOPIC, _item_records(workload))

    async def publish_events(self, topic: str, workload: Workload) -> None:
        """Publish the workload's events."""
        await self.broker.create([topic], self.partitions)
        await self.broker.fill(topic, workload.records())

    async def race(self, contestant: Contestant, events_topic: str, events: int) -> Throughput:
        """Run one throughput contest; what it wrote is deleted afterwards."""
        with self._run(contestant, events_topic) as run:
            await self._open(contestant, run, [run.updates_topic])
            wanted = int(events * contestant.share)
            result = await throughput.measure(self.broker, contestant, run, wanted)
            await self.broker.delete(run.name)
        return result

    async def trickle(self, contestant: Contestant, pace: Pace) -> Latency:
        """Run one latency contest on an events topic of its own."""
        with self._run(contestant, "", low_latency=True) as run:
            await self._open(contestant, run, [run.events_topic, run.updates_topic])
            result = await latency.measure(self.broker, contestant, run, pace)
            await self.broker.delete(run.name)
        return result

    async def _open(self, contestant: Contestant, run: Run, names: list[str]) -> None:
        await self.broker.create(names, self.partitions)
        if contestant is OURS:
            await topics.create(settings.load(environ=ours.settings(run)))

    @contextmanager
    def _run(
        self, contestant: Contestant, events_topic: str, *, low_latency: bool = False
    ) -> Iterator[Run]:
        name = f"bench{next(self._numbers)}.{contestant.name}"
        directory = self.directory / name
        directory.mkdir(parents=True)
        prepared = self.prepared
        cache = prepared.text_cache
        try:
            yield Run(
                name=name,
                bootstrap=self.broker.bootstrap,
                group=name,
                events_topic=events_topic or f"{name}.events",
                updates_topic=f"{name}.updates",
                items_topic=_ITEMS_TOPIC,
                directory=str(directory),
                vectors=str(prepared.vectors),
                model_id=prepared.model_id,
                granularity_weights=prepared.weights,
                partitions=self.partitions,
                text_cache=str(cache) if cache.exists() else "",
                low_latency=low_latency,
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _item_records(workload: Workload) -> Iterator[Record]:
    for item, text in workload.item_texts().items():
        key = item.encode()
        place = (murmur2(key) & 0x7FFFFFFF) % workload.partitions
        yield Record(place, key, json.dumps({"item_id": item, "text": text}).encode())
