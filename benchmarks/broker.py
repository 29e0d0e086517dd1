"""What the harness does with Kafka: make topics, fill them, look at commits and updates.

Nothing is asked of the contestants: the broker stamps the updates (LogAppendTime) and keeps the
committed offsets, so one clock and one method serve all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

from benchmarks.workload import Record

_NO_COORDINATOR_YET = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
"""The first group of a new broker makes it create the offsets topic."""

_TAIL_RECORDS = 200
"""Read back per partition to see what was published last."""


class Broker:
    """One admin client and short-lived producers and consumers."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._coordinator: int | None = None

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    async def create(self, topics: Iterable[str], partitions: int) -> None:
        """Create topics whose records the broker stamps with its own time."""
        await self._admin.create_topics(
            [
                NewTopic(
                    name, partitions, 1, topic_configs={"message.timestamp.type": "LogAppendTime"}
                )
                for name in topics
            ]
        )
        await self._all_led(list(topics), partitions)

    async def delete(self, prefix: str) -> None:
        """Delete every topic of this prefix: a contest's updates are a gigabyte."""
        names = [name for name in await self._admin.list_topics() if name.startswith(prefix)]
        if names:
            await self._admin.delete_topics(names)

    async def _all_led(self, topics: Sequence[str], partitions: int) -> None:
        for _ in range(200):
            described = await self._admin.describe_topics(list(topics))
            led = [
                len([part for part in topic["partitions"] if part["leader"] >= 0])
                for topic in described
            ]
            if led == [partitions] * len(topics):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"no leaders for {topics} after 10 s")

    async def fill(self, topic: str, records: Iterable[Record]) -> list[int]:
        """Publish records to their partitions, in order; return how many each partition got."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_request_size=8 << 20, max_batch_size=500_000
        )
        await producer.start()
        batches: dict[int, Any] = {}
        counts: dict[int, int] = {}
        for record in records:
            at = record.partition
            counts[at] = counts.get(at, 0) + 1
            batch = batches.get(at) or batches.setdefault(at, producer.create_batch())
            if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                batch.close()
                await producer.send_batch(batch, topic, partition=at)
                batch = batches[at] = producer.create_batch()
                batch.append(key=record.key, value=record.value, timestamp=None)
        for at, batch in batches.items():
            batch.close()
            await producer.send_batch(batch, topic, partition=at)
        await producer.stop()
        return [counts.get(at, 0) for at in range(max(counts, default=-1) + 1)]

    async def committed(self, group: str, topic: str) -> int:
        """Return the sum of the group's committed offsets of the topic; 0 before the first."""
        try:
            if self._coordinator is None:
                self._coordinator = await self._admin.find_coordinator(group)
            offsets = await self._admin.list_consumer_group_offsets(group, self._coordinator)
        except _NO_COORDINATOR_YET:
            return 0
        return sum(max(found.offset, 0) for place, found in offsets.items() if place.topic == topic)

    async def published(self, topic: str) -> Published:
        """Return when the broker got the first and last update, how many, and the last of them."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            places = [TopicPartition(topic, at) for at in await _partitions(consumer, topic)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            first = await _first_records(consumer, places, ends)
            tail = await _tail(consumer, places, ends)
        finally:
            await consumer.stop()
        return Published(
            min((record.timestamp for record in first), default=0) / 1000,
            max((record.timestamp for record in tail), default=0) / 1000,
            sum(ends.values()),
            tail,
        )

    async def end_offsets(self, topic: str) -> int:
        """Return how many records the topic has had."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            places = [TopicPartition(topic, at) for at in await _partitions(consumer, topic)]
            return sum((await consumer.end_offsets(places)).values())
        finally:
            await consumer.stop()


class Published:
    """What the updates topic says of a run. Times are the broker's, in seconds."""

    def __init__(
        self, first_s: float, last_s: float, count: int, tail: list[ConsumerRecord]
    ) -> None:
        self.first_s = first_s
        self.last_s = last_s
        self.count = count
        self.tail = tail


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    await consumer._client.force_metadata_update()
    known = consumer.partitions_for_topic(topic)
    if not known:
        consumer.subscribe([topic])
        await consumer._client.force_metadata_update()
        known = consumer.partitions_for_topic(topic)
        consumer.unsubscribe()
    return sorted(known or ())


async def _first_records(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], ends: dict[TopicPartition, int]
) -> list[ConsumerRecord]:
    first = []
    for place in places:
        if ends[place]:
            consumer.seek(place, 0)
            first.append(await consumer.getone(place))
    return first


async def _tail(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], ends: dict[TopicPartition, int]
) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    for place in places:
        end = ends[place]
        if end:
            consumer.seek(place, max(end - _TAIL_RECORDS, 0))
            position = 0
            while position < end:
                fetched = await consumer.getmany(place, timeout_ms=1000)
                records += fetched.get(place, [])
                position = await consumer.position(place)
    return records
