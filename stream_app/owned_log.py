"""A topic whose partitions only their owner writes to, and what happens if somebody else does.

A worker frozen past its session timeout may, once thawed, get one more batch through before it
learns that its partitions have gone. Such a record would be the last of its key, and the past
would win by compaction. But a produce acknowledgement names an offset: if that is not where our
own records end, others lie between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.kafka_access import Brokers, client_options
from stream_app.partition import Forgotten, Partition, State
from stream_app.producer import DeliveryFailed
from stream_app.status import Counts

log = logging.getLogger("stream_app.owned_log")

_READ_TIMEOUT_S = 10.0

Applied = Callable[[Partition, ConsumerRecord], int]
"""The source offset that a record was made at, -1 if it is older than anything of ours."""


class LastRecord(NamedTuple):
    """What a log says last of a user."""

    applied_offset: int
    forgotten: bool


Others = dict[bytes, LastRecord]
"""User id -> the last record, which is perhaps not ours."""


def outdone(partition: Partition, others: Others) -> dict[bytes, State]:
    """Return our states that are newer than what others wrote: they have to be the last word.

    What others wrote is right as far as it goes, the same log folded in the same order; only what
    is older than ours must not stand last.
    """
    partition.must_be_ours()
    partition.load(others)
    newer: dict[bytes, State] = {}
    for key, last in others.items():
        window = partition.hot[key]
        if window is None and last.forgotten:
            continue
        ours: State
        if window is not None:
            ours = window
        else:  # a forget older than our memory: it lies somewhere before what is folded
            forgotten_at = partition.table.forgotten_at(key)
            ours = Forgotten(partition.last_offset if forgotten_at is None else forgotten_at)
        if ours.applied_offset > last.applied_offset:
            newer[key] = ours
    return newer


class OwnedLog:
    """Watches the offsets of one topic's partitions while they are ours."""

    def __init__(
        self, topic: str, bootstrap_servers: Brokers, counts: Counts, applied: Applied
    ) -> None:
        self.topic = topic
        self._bootstrap_servers = bootstrap_servers
        self._counts = counts
        self._applied = applied
        self._next: dict[Partition, int] = {}
        """The offset our next record gets if nobody else writes."""

    async def own(self, partitions: Sequence[Partition], within_ms: int) -> dict[Partition, Others]:
        """Begin to watch partitions, and return what was written to them in the last moments.

        That includes what a former self, frozen and thawed, wrote before it knew better.

        Raises:
            DeliveryFailed: the broker did not answer.
        """
        ends = await self._ends(partitions)
        self._next.update(ends)
        since_ms = int(time.time() * 1000) - within_ms
        found = {}
        for partition, end in ends.items():
            first = await self._first_since(partition, since_ms)
            if first is not None and first < end:
                found[partition] = await self._read_all(partition, first, end - 1)
        return found

    def own_from(self, partition: Partition, offset: int) -> None:
        """Begin to watch a partition whose records before ``offset`` are known."""
        self._next.setdefault(partition, offset)

    def release(self, partition: Partition) -> None:
        """Forget a partition that has left us."""
        self._next.pop(partition, None)

    async def others_before(self, partition: Partition, count: int, last: int) -> Others:
        """Return whose records others wrote before ours, and the newest source offset of each.

        ``count`` records of ours were acknowledged, the last of them at offset ``last``.

        Raises:
            DeliveryFailed: there are such records, but they could not be read.
        """
        expected = self._next.get(partition, last + 1 - count)
        self._next[partition] = last + 1
        if last < expected + count:  # not later than where ours must end
            return {}
        return await self._others(partition, expected, last)

    async def others_since(self, partitions: Sequence[Partition]) -> dict[Partition, Others]:
        """Look at idle partitions: return for each what :meth:`others_before` returns.

        Raises:
            DeliveryFailed: the broker did not answer.
        """
        known = {each: self._next[each] for each in partitions if each in self._next}
        found = {}
        for partition, end in (await self._ends(list(known))).items():
            # Still idle? Else its next acknowledgement tells.
            if end > known[partition] == self._next.get(partition):
                self._next[partition] = end
                found[partition] = await self._others(partition, known[partition], end - 1)
        return found

    async def _ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if not partitions:
            return {}
        tps = {TopicPartition(self.topic, each.number): each for each in partitions}
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S), self._connected() as consumer:
                ends: dict[TopicPartition, int] = await consumer.end_offsets(list(tps))
        except (KafkaError, TimeoutError) as error:
            raise DeliveryFailed(f"the ends of {self.topic} are not known: {error!r}") from error
        return {tps[tp]: end for tp, end in ends.items()}

    async def _others(self, partition: Partition, first: int, last: int) -> Others:
        try:
            found = await self._read_all(partition, first, last)
        except DeliveryFailed:
            self._next[partition] = first  # so that the next look begins there again
            raise
        self._counts.intrusions += 1
        log.warning(
            "somebody else wrote to %s/%s between offsets %s and %s",
            self.topic,
            partition.number,
            first,
            last,
        )
        return found

    async def _first_since(self, partition: Partition, since_ms: int) -> int | None:
        tp = TopicPartition(self.topic, partition.number)
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S), self._connected() as consumer:
                found = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        except (KafkaError, TimeoutError) as error:
            raise DeliveryFailed(f"{self.topic} cannot be searched: {error!r}") from error
        return None if found is None else int(found.offset)

    async def _read_all(self, partition: Partition, first: int, last: int) -> Others:
        """Return the source offset of each key's last record between two offsets."""
        tp = TopicPartition(self.topic, partition.number)
        found: Others = {}
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S), self._connected() as consumer:
                consumer.assign([tp])
                consumer.seek(tp, first)
                while await consumer.position(tp) <= last:
                    for record in (await consumer.getmany(timeout_ms=500)).get(tp, ()):
                        applied = self._applied(partition, record)
                        found[record.key] = LastRecord(applied, record.value is None)
        except (KafkaError, TimeoutError) as error:
            raise DeliveryFailed(f"{self.topic} cannot be read: {error!r}") from error
        return found

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **client_options(self._bootstrap_servers),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
