"""The vectors last published of this worker's users, for those who look for an audience.

From the first request on that needs them: rounds hand over what they publish, and what was
published before is read from the updates topic, once per partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from weakref import WeakKeyDictionary

import numpy as np
from aiokafka.structs import ConsumerRecord

from encoders.interface import EncoderInfo, Float32
from state.window import Window
from stream_app import change
from stream_app.api.vector_table import Near, VectorTable
from stream_app.encoded import Encoded
from stream_app.errors import FixData, InterestStreamError
from stream_app.partition import Partition
from stream_app.rounds import Share
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end

log = logging.getLogger("stream_app.api")

_SLICE_RECORDS = 32
"""Updates decoded before the event loop may run something else: about 1 ms of JSON."""
_LOOK_S = 0.25
_RETRY_S = 5.0
_FIRST_READ_S = 3.0
"""How long a first request waits for the reading that it has set off."""


class _PartitionVectors:
    """Of one partition, for as long as it is ours.

    It does not refer to the partition: who does keeps its database open, and the next owner out.
    """

    def __init__(self, number: int, table: VectorTable) -> None:
        self.number = number
        self.table = table
        self.complete = False
        self.gone: set[str] | None = set()
        """Users deleted while older updates are still being read."""

    def take(self, keys: Sequence[str], vectors: Float32, offsets: Sequence[int]) -> None:
        """Take up what was just published."""
        self.table.put(keys, vectors, offsets)
        if self.gone:
            self.gone.difference_update(keys)

    def drop(self, key: str) -> None:
        """The user is forgotten, or was silent for too long."""
        self.table.remove(key)
        if self.gone is not None:
            self.gone.add(key)

    def take_older(self, changes: Iterable[change.Change], model_id: str) -> None:
        """Take up what was published before, oldest first, where nothing newer is held."""
        latest: dict[str, change.Change] = {}
        for each in changes:
            held = latest.get(each.user_id)
            if held is None or not change.is_stale(each, held):
                latest[each.user_id] = each
        kept = []
        for user_id, each in latest.items():
            if self.gone and user_id in self.gone:
                continue
            if user_id in self.table and each.applied_offset < self.table.offset(user_id):
                continue
            if each.update is None:
                self.table.remove(user_id)
            elif each.update.model_id == model_id:
                kept.append(each.update)
        vectors = np.array([np.asarray(update.vector) for update in kept], np.float32)
        keys = [update.user_id for update in kept]
        self.table.put(keys, vectors, [update.applied_offset for update in kept])

    def completed(self) -> None:
        """All that was published before is read."""
        self.complete = True
        self.gone = None


class UserVectors:
    """Keeps the vectors of the partitions that are ours, once somebody has asked for them."""

    def __init__(self, settings: Settings, ours: Callable[[], Iterable[Partition]]) -> None:
        self._settings = settings
        self._ours = ours
        self._info: EncoderInfo | None = None
        self._wanted = asyncio.Event()
        self._filled = asyncio.Event()
        self._by_partition: WeakKeyDictionary[Partition, _PartitionVectors] = WeakKeyDictionary()

    @property
    def held(self) -> int:
        """Users whose vectors are held."""
        return sum(len(table) for table in self._tables())

    @property
    def evicted(self) -> int:
        """Users that had to go for others."""
        return sum(table.evicted for table in self._tables())

    @property
    def complete(self) -> bool:
        """Whether everything published before is read, of every partition that is ours."""
        return self._filled.is_set() and not self._to_be_read()

    def begin(self, info: EncoderInfo) -> None:
        """Say whose vectors they are, once the model is known."""
        self._info = info

    def read_anew(self) -> None:
        """Drop what is held and read it from the topic."""
        self._by_partition.clear()

    def on_published(self, shares: Sequence[Share], encoded: Sequence[Encoded]) -> None:
        """Take up what a round publishes: the vectors of its windows, in the order of its shares.

        One assignment per partition, and nothing at all before somebody has asked.
        """
        if not self._wanted.is_set():
            return
        vectors = _stacked(encoded)
        failed = _failed(encoded)
        place = 0
        for share in shares:
            held = self._by_partition.get(share.partition)
            users = [(k, s) for k, s in share.states.items() if isinstance(s, Window)]
            places = range(place, place + len(users))
            place = places.stop
            if held is None:
                continue
            if len(users) < len(share.states):
                for key, state in share.states.items():
                    if not isinstance(state, Window):
                        held.drop(key.decode())
            good = [at for at in range(len(users)) if places[at] not in failed]
            held.take(
                [users[at][0].decode() for at in good],
                vectors[[places[at] for at in good]],
                [users[at][1].applied_offset for at in good],
            )

    async def nearest(self, vector: Float32, count: int) -> list[Near]:
        """Return the users of the greatest dot product with ``vector`` [D], the greatest first."""
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_READ_S):
                await self._filled.wait()
        found = [await table.nearest(vector, count) for table in self._tables()]
        return heapq.nsmallest(
            count, chain.from_iterable(found), key=lambda near: (-near.score, near.key)
        )

    async def keep(self) -> None:
        """Read what was published before of every partition that comes to us, for ever."""
        await self._wanted.wait()
        while True:
            for each in self._to_be_read():
                self._filled.clear()
                try:
                    await self._read(each)
                except InterestStreamError as error:
                    log.warning("Updates for the API not read, trying again: %s", error)
                    await asyncio.sleep(_RETRY_S)
            if not self._to_be_read():
                self._filled.set()
            await asyncio.sleep(_LOOK_S)

    def _to_be_read(self) -> list[_PartitionVectors]:
        """Return what is not complete, beginning with partitions that are new."""
        if self._info is None:
            return []
        ours = list(self._ours())
        for partition in ours:
            if partition not in self._by_partition:
                most = max(1, self._settings.api_users_max // len(ours))
                table = VectorTable(self._info.dimensions, most)
                self._by_partition[partition] = _PartitionVectors(partition.number, table)
        return [
            self._by_partition[partition]
            for partition in ours
            if not self._by_partition[partition].complete
        ]

    def _tables(self) -> list[VectorTable]:
        """Return the vectors of the partitions that are ours.

        One that has left us may live on for a moment, in somebody's local variable.
        """
        by_partition = self._by_partition
        return [by_partition[each].table for each in self._ours() if each in by_partition]

    def _deliveries(self, number: int) -> list[asyncio.Task[None]]:
        return [
            task
            for partition in self._ours()
            if partition.number == number
            for task in partition.deliveries
        ]

    async def _read(self, vectors: _PartitionVectors) -> None:
        """Read a partition of the updates topic up to its present end."""
        assert self._info is not None, "begin() comes first"
        under_way = self._deliveries(vectors.number)  # rounds of before anybody had asked
        if under_way:
            await asyncio.wait(under_way)
        topic = self._settings.updates_topic
        async with open_consumer(self._settings.kafka, topic, [vectors.number]) as consumer:
            records: list[ConsumerRecord] = []
            async for record in to_the_end(consumer):
                records.append(record)
                if len(records) == _SLICE_RECORDS:
                    vectors.take_older(_changes(records), self._info.model_id)
                    records = []
                    await asyncio.sleep(0)
            vectors.take_older(_changes(records), self._info.model_id)
        vectors.completed()


def _stacked(encoded: Sequence[Encoded]) -> Float32:
    """Return the vectors of all windows of a round, [B, D]."""
    if len(encoded) == 1:
        return encoded[0].vectors
    if not encoded:
        return np.empty((0, 0), np.float32)
    return np.concatenate([part.vectors for part in encoded])


def _failed(encoded: Sequence[Encoded]) -> set[int]:
    """Return the places of the windows that could not be encoded."""
    starts = accumulate((len(part.vectors) for part in encoded), initial=0)
    return {
        start + at for start, part in zip(starts, encoded, strict=False) for at in part.failures
    }


def _changes(records: Sequence[ConsumerRecord]) -> list[change.Change]:
    found = []
    for record in records:
        with contextlib.suppress(FixData):  # readers of the topic count and tell of those
            found.append(change.read(record))
    return found
