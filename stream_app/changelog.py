"""The changelog of windows: appending to it, and noticing whether somebody else did.

A worker frozen past its session timeout may, once thawed, get one more batch through before it
learns that its partitions have gone. Such records would win by compaction and bring back the past.
But a produce acknowledgement names an offset: if that is not where our own records end, others lie
between, and their users' windows are written once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from state import codec
from stream_app.partition import Forgotten, Partition
from stream_app.producer import BatchProducer, DeliveryFailed, OutRecord
from stream_app.status import Counts

log = logging.getLogger("stream_app.changelog")

_IDLE_CHECK_S = 5.0
"""Well under the changelog's min.compaction.lag.ms, so that nothing is compacted before we look."""
_READ_TIMEOUT_S = 10.0


class Changelog:
    """Appends windows to our changelog partitions and guards them against former owners."""

    def __init__(
        self, topic: str, producer: BatchProducer, counts: Counts, bootstrap_servers: str
    ) -> None:
        self._topic = topic
        self._producer = producer
        self._counts = counts
        self._bootstrap_servers = bootstrap_servers
        self._next: dict[Partition, int] = {}
        """The offset that our next record must get if nobody else writes."""

    async def append(self, partition: Partition, rows: Sequence[OutRecord]) -> int | None:
        """Append the rows and return the offset of the last one, ``None`` if there are no rows.

        Raises:
            DeliveryFailed: not acknowledged in time.
        """
        if not rows:
            return None
        last = await self._producer.send(self._topic, partition.number, rows)
        expected = self._expected(partition)
        if expected is not None and last != expected + len(rows) - 1:
            try:
                await self._rewrite(partition, expected, last)
            except (KafkaError, TimeoutError) as error:
                raise DeliveryFailed(f"changelog records of others not read: {error!r}") from error
        self._next[partition] = last + 1
        return last

    def _expected(self, partition: Partition) -> int | None:
        if partition not in self._next:
            stored = partition.table.changelog_offset()
            if stored is None:
                return None
            self._next[partition] = stored + 1
        return self._next[partition]

    def release(self, partition: Partition) -> None:
        """Forget a partition that has left us."""
        self._next.pop(partition, None)

    async def watch(self, partitions: Callable[[], Iterable[Partition]]) -> None:
        """Look after idle partitions now and then, for ever: they get no acknowledgements."""
        while True:
            await asyncio.sleep(_IDLE_CHECK_S)
            for partition in list(partitions()):
                if partition.dirty or partition.taken or partition.revoked:
                    continue
                try:
                    await self._look_after(partition)
                except (KafkaError, TimeoutError, DeliveryFailed) as error:
                    log.warning("changelog partition %s: %r", partition.number, error)

    async def _look_after(self, partition: Partition) -> None:
        async with partition.checkpointing:
            expected = self._expected(partition)
            if expected is None or partition.revoked:
                return
            tp = TopicPartition(self._topic, partition.number)
            async with self._consumer() as consumer:
                end = (await consumer.end_offsets([tp]))[tp]
            if end > expected:
                await self._rewrite(partition, expected, end - 1)
                self._next[partition] = end

    async def _rewrite(self, partition: Partition, first: int, last: int) -> None:
        """Write our newer windows again behind the records ``first`` to ``last``.

        What others wrote is right as far as it goes: the same log, folded in the same order. So
        only what is older than ours has to be outdone.
        """
        applied_by_others = await self._read(partition.number, first, last)
        partition.must_be_ours()
        partition.load(applied_by_others)
        rewritten = 0
        for key, applied in applied_by_others.items():
            ours = partition.hot[key] or Forgotten(partition.last_offset)
            if ours.applied_offset > applied and key not in partition.dirty:
                partition.dirty[key] = ours
                rewritten += 1
        self._counts.changelog_intruders += 1
        log.warning(
            "somebody else wrote to changelog partition %s between offsets %s and %s; "
            "%s windows are written again",
            partition.number,
            first,
            last,
            rewritten,
        )

    async def _read(self, partition: int, first: int, last: int) -> dict[bytes, int]:
        """Return the keys of the records, and the newest source offset each was made at.

        A tombstone counts as -1: a user it deletes wrongly has a window here, and that is newer.
        """
        tp = TopicPartition(self._topic, partition)
        keys: dict[bytes, int] = {}
        async with self._consumer() as consumer:
            consumer.assign([tp])
            consumer.seek(tp, first)
            async with asyncio.timeout(_READ_TIMEOUT_S):
                while await consumer.position(tp) <= last:
                    for record in (await consumer.getmany(timeout_ms=500)).get(tp, ()):
                        applied = -1 if record.value is None else codec.applied_offset(record.value)
                        keys[record.key] = max(keys.get(record.key, -1), applied)
        return keys

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
