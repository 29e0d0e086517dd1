"""Encode and publish: touched users of all partitions, micro-batch by micro-batch.

A round takes every user touched so far. While the encoder process works on one round the event
loop folds and gathers the next, so under load micro-batches grow by themselves, and a user touched
several times in between gets one vector, of the latest window.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from encoders.interface import Float32
from state.window import Window
from stream_app.dead_letters import DeadLetter
from stream_app.encoded import Encoded, Result
from stream_app.encoding import WindowEncoder
from stream_app.lease import Lease
from stream_app.meters import Meters
from stream_app.owned_log import Others, OwnedLog, outdone
from stream_app.partition import Forgotten, Partition, PartitionRevoked, State
from stream_app.producer import BatchProducer, DeliveryFailed, OutRecord
from stream_app.stages import Arrival, RoundTimes
from stream_app.status import Counts
from stream_app.tracing import NoTracing, Published, RoundTrace, Tracing
from stream_app.updates import UpdateEncoder

log = logging.getLogger("stream_app.rounds")

_SLICE_USERS = 128
"""Updates encoded before the event loop may run something else: about 1 ms of JSON."""
_ROUNDS_IN_FLIGHT = 2
"""One in the encoder process, one being gathered or published."""


class Share(NamedTuple):
    """One partition's users in a round, and the tick up to which they cover it."""

    partition: Partition
    states: dict[bytes, State]
    tick: int
    arrivals: list[Arrival]


class Rounds:
    """The loop from touched users to updates on their way."""

    def __init__(
        self,
        partitions: Callable[[], Iterable[Partition]],
        encoder: WindowEncoder,
        updates: UpdateEncoder,
        producer: BatchProducer,
        lease: Lease,
        counts: Counts,
        meters: Meters,
        log: OwnedLog,
        *,
        source_topic: str,
        max_users: int,
        linger_ms: float,
    ) -> None:
        self._partitions = partitions
        self._encoder = encoder
        self._updates = updates
        self._producer = producer
        self._lease = lease
        self._counts = counts
        self._meters = meters
        self._source = source_topic
        self._log = log
        self._max_users = max_users
        self._linger_s = linger_ms / 1000
        self._wanted = asyncio.Event()
        self._slots = asyncio.Semaphore(_ROUNDS_IN_FLIGHT)
        self._under_way = 0
        self.tracing: Tracing = NoTracing()
        self.bury: Callable[[Partition, list[DeadLetter]], None] = lambda partition, letters: None
        self.on_published: Callable[[list[Share], list[Encoded]], None] | None = None
        """Told of every round, where anybody keeps what is published."""

    def want(self) -> None:
        """Say that somebody was touched."""
        self._wanted.set()

    async def run(self) -> None:
        """Run rounds for ever.

        Raises:
            InterestStreamError: a round failed for a reason that a retry does not mend.
        """
        async with asyncio.TaskGroup() as group:
            before: asyncio.Task[None] | None = None
            while True:
                await self._wanted.wait()
                await self._linger()
                await self._slots.acquire()
                self._wanted.clear()
                shares = self._gather()
                if shares:
                    self._under_way += 1
                    before = group.create_task(self._round(shares, before))
                else:
                    self._slots.release()

    async def _linger(self) -> None:
        """Let users gather while a round is under way, unless a micro-batch is full already."""
        if not self._under_way:
            return
        users = sum(len(partition.touched) for partition in self._partitions())
        if users < self._max_users:
            await asyncio.sleep(self._linger_s)

    def _gather(self) -> list[Share]:
        shares = []
        for partition in self._partitions():
            if partition.warming_up:
                partition.touched.clear()
                partition.arrivals.clear()
            if partition.touched or partition.uncovered():
                states, partition.touched = partition.touched, {}
                came, partition.arrivals = partition.arrivals, []
                shares.append(Share(partition, states, partition.tick, came))
                partition.round_begins()
        return shares

    async def _round(self, shares: list[Share], before: asyncio.Task[None] | None) -> None:
        times = RoundTimes(time.time())
        trace = self.tracing.round([each for share in shares for each in share.arrivals])
        try:
            windows = [
                state
                for share in shares
                for state in share.states.values()
                if isinstance(state, Window)
            ]
            encoded = [
                await self._encoder.encode(windows[start : start + self._max_users])
                for start in range(0, len(windows), self._max_users)
            ]
            times.text_s = sum(part.text_s for part in encoded)
            times.encoded_s = time.time()
            if before is not None:
                await before  # rounds publish in the order in which they gathered
            await self._publish(shares, encoded, times, trace)
            sizes = [len(part.vectors) for part in encoded]
            trace.handed_over(times, sizes)
            self._counts.micro_batches += len(encoded)
            for size in sizes:
                self._meters.micro_batch_users.observe(size)
        finally:
            for share in shares:
                share.partition.round_ended()
            self._under_way -= 1
            self._slots.release()

    async def _publish(
        self, shares: list[Share], encoded: list[Encoded], times: RoundTimes, trace: RoundTrace
    ) -> None:
        if self.on_published is not None:
            self.on_published(shares, encoded)
        results = (result for part in encoded for result in part.rows())
        for share in shares:
            windows = sum(isinstance(state, Window) for state in share.states.values())
            own = islice(results, windows)
            try:
                # Before the deliveries are queued: waiting each on its own, they would overtake.
                await self._lease.held(share.partition)
                records, letters = await self._encoded(share, own)
            except PartitionRevoked:
                collections.deque(own, maxlen=0)
            else:
                self._hand_over(share, records, letters, times, trace)

    async def _encoded(
        self, share: Share, results: Iterator[Result]
    ) -> tuple[list[OutRecord], list[DeadLetter]]:
        """Return the updates of a share, and the dead letters of users that cannot be encoded."""
        records: list[OutRecord] = []
        letters: list[DeadLetter] = []
        for count, (key, state) in enumerate(share.states.items(), 1):
            headers = self._updates.headers(state.applied_offset)
            if isinstance(state, Forgotten):
                records.append(OutRecord(key, None, headers))
            else:
                result = next(results)
                if result.vector is None:
                    letters.append(self._letter(share, key, state, result.failure))
                else:
                    value = self._value(share, key, state, result.vector, result)
                    records.append(OutRecord(key, value, headers))
            if count % _SLICE_USERS == 0:
                await asyncio.sleep(0)
        return records, letters

    def _value(
        self, share: Share, key: bytes, window: Window, vector: Float32, result: Result
    ) -> bytes:
        return self._updates.encode(
            key.decode(),
            vector,
            result.granularities,
            window.times_ms[-1],
            share.partition.number,
            window.applied_offset,
            len(window),
            result.several,
        )

    def _letter(self, share: Share, key: bytes, window: Window, reason: str) -> DeadLetter:
        number = share.partition.number
        return DeadLetter(
            key, None, "encoder-failed", reason, self._source, number, window.applied_offset
        )

    def _hand_over(
        self,
        share: Share,
        records: list[OutRecord],
        letters: list[DeadLetter],
        times: RoundTimes,
        trace: RoundTrace,
    ) -> None:
        partition = share.partition
        if partition.revoked:
            return
        if records:
            trace.delivering()
            partition.deliver(self._traced(trace, share, records, times))
        if letters:
            self._counts.users_failed += len(letters)
            self.bury(partition, letters)
        partition.covered(share.tick)

    async def _traced(
        self, trace: RoundTrace, share: Share, records: list[OutRecord], times: RoundTimes
    ) -> None:
        acknowledged = False
        try:
            acknowledged = await self._deliver(share, records, times)
        finally:
            number = share.partition.number
            trace.delivered(Published(number, len(records), time.time(), acknowledged))

    async def _deliver(self, share: Share, records: list[OutRecord], times: RoundTimes) -> bool:
        """Deliver one partition's updates; what fails is touched again and so made anew.

        Returns whether they have arrived.

        Sending the same bytes later could put an older vector behind a newer one.
        """
        partition = share.partition
        try:
            last = await self._producer.send(
                self._log.topic, partition.number, records, allowed=self._lease.is_held
            )
            self._meters.published(share.arrivals, times, time.time())
            self._outdo(partition, await self._log.others_before(partition, len(records), last))
        except PartitionRevoked:
            return False
        except DeliveryFailed as error:
            self._counts.delivery_retries += 1
            log.warning("Updates not delivered, making them anew: %s", error)
            if not partition.revoked:
                partition.touch_again(share.states)
                partition.arrivals[:0] = share.arrivals
                self.want()
            return False
        tombstones = sum(record.value is None for record in records)
        self._counts.tombstones += tombstones
        self._counts.updates_published += len(records) - tombstones
        return True

    async def own(self, partitions: Sequence[Partition], within_ms: int) -> None:
        """Begin to publish for partitions: what was published last must not be older than ours.

        Raises:
            DeliveryFailed: the broker did not answer.
        """
        for partition, last in (await self._log.own(partitions, within_ms)).items():
            self._outdo(partition, last)

    async def look_after(self, partitions: Sequence[Partition]) -> None:
        """Look whether former owners wrote to idle partitions of the updates topic.

        Raises:
            DeliveryFailed: the broker did not answer.
        """
        for partition, others in (await self._log.others_since(partitions)).items():
            self._outdo(partition, others)

    def _outdo(self, partition: Partition, others: Others) -> None:
        if others:
            newer = outdone(partition, others)
            partition.touch_again(newer)
            self.want()
