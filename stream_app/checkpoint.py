"""Checkpoints: when what happened to a partition becomes durable, and in which order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from state import codec, era
from stream_app.changelog import Changelog
from stream_app.delivery import APPLIED_OFFSET_HEADER
from stream_app.lease import Lease
from stream_app.meters import Meters
from stream_app.partition import Forgotten, Partition, PartitionRevoked, State
from stream_app.producer import DeliveryFailed, OutRecord
from stream_app.status import Counts

log = logging.getLogger("stream_app.checkpoint")

_SLICE_USERS = 256
"""Windows encoded before the event loop may run something else: about half a millisecond."""


class Checkpoints:
    """Checkpoints every partition in turn, and at once where a bound is reached."""

    def __init__(
        self,
        partitions: Callable[[], Iterable[Partition]],
        changelog: Changelog,
        lease: Lease,
        counts: Counts,
        meters: Meters,
        *,
        interval_ms: int,
    ) -> None:
        self._partitions = partitions
        self._changelog = changelog
        self._lease = lease
        self._counts = counts
        self._meters = meters
        self._interval_s = interval_ms / 1000

    async def run(self) -> None:
        """Checkpoint the partitions one after the other, each once per interval, for ever."""
        while True:
            partitions = list(self._partitions())
            for partition in partitions:
                await asyncio.sleep(self._interval_s / len(partitions))
                await self.attempt(partition)
            if not partitions:
                await asyncio.sleep(self._interval_s)

    async def attempt(self, partition: Partition) -> bool:
        """Checkpoint; a broker that does not answer is said in the log and tried again later."""
        try:
            await self.checkpoint(partition)
        except DeliveryFailed as error:
            self._counts.delivery_retries += 1
            log.warning("Checkpoint of partition %s waits: %s", partition.number, error)
            return False
        except PartitionRevoked:
            return False
        return True

    async def checkpoint(self, partition: Partition) -> None:
        """Make everything folded so far durable, then let its offsets be committed.

        1. Remember the last RecordBatch taken up; take its dirty windows (windows never change,
           so holding them is a snapshot) and encode them in slices: the loop never stalls.
        2. Changelog, once the encoder has dropped the texts of forgotten users, for only their
           windows say which: one record per dirty user, acks=all, await.
        3. Updates and dead letters published up to that RecordBatch: await.
        4. RocksDB: one write batch, with the changelog offset it corresponds to.
        5. Acknowledge the RecordBatches; Faust commits their offsets.

        Killed between any two lines, the worker restarts from the last commit. Windows know the
        last source offset applied to them, so redelivered events change nothing, and their users'
        vectors are published again.

        Raises:
            DeliveryFailed: the broker did not acknowledge; nothing is lost, try again.
            PartitionRevoked: the partition has left us; its next owner goes on.
        """
        async with partition.checkpointing:
            if not partition.taken and not partition.dirty:
                return
            await self._lease.held(partition)
            begun_s, as_of_ms = time.perf_counter(), time.time_ns() // 1_000_000
            tick = partition.tick  # 1
            batches, stream_ms = list(partition.taken), partition.stream_ms
            dirty, partition.dirty = partition.dirty, {}
            partition.storing = dirty
            try:
                rows = await _encoded(dirty, partition.table.era)
                await partition.texts_dropped()  # 2
                partition.must_be_ours()
                offset = await self._changelog.append(partition, rows)
                self._meters.changelog.observe(time.perf_counter() - begun_s)
                await partition.delivered(tick)  # 3
            except BaseException:
                partition.dirty = dirty | partition.dirty
                partition.storing = {}
                raise
            partition.must_be_ours()
            stored = zip(dirty, (row.value for row in rows), strict=True)
            partition.table.write(stored, offset, as_of_ms)  # 4
            partition.storing = {}
            partition.stored_stream_ms = stream_ms
            for taken in batches:  # 5
                taken.batch.ack()
                partition.taken.popleft()
            _let_forgotten_go(partition, dirty)
            self._counts.checkpoints += 1
            self._counts.windows_stored += len(rows)
            self._meters.checkpoint.observe(time.perf_counter() - begun_s)


async def _encoded(dirty: dict[bytes, State], era_: int) -> list[OutRecord]:
    rows = []
    headers = era.headers(era_)
    for count, (key, state) in enumerate(dirty.items(), 1):
        if isinstance(state, Forgotten):
            header = (APPLIED_OFFSET_HEADER, b"%d" % state.applied_offset)
            rows.append(OutRecord(key, None, [header, *headers]))
        else:
            rows.append(OutRecord(key, codec.encode(state), headers))
        if count % _SLICE_USERS == 0:
            await asyncio.sleep(0)
    return rows


def _let_forgotten_go(partition: Partition, stored: dict[bytes, State]) -> None:
    """Of a forgotten user only where it happened stays in memory, against stale records."""
    for key, state in stored.items():
        if not isinstance(state, Forgotten):
            continue
        if not state.expired:  # who is brought back by a stale record expires again
            partition.table.remember_forgotten(key, state.applied_offset)
        if partition.hot.get(key, state) is None and key not in partition.dirty:
            del partition.hot[key]
