"""Where aiokafka's consumer runs: fetching ahead, seeking, committing, and the lease."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

_COMMIT_RETRY_S = 0.5
_REBALANCING_POLL_S = 0.05
_CANCEL_AGAIN_S = 0.2
_FETCH_MAX_WAIT_MS = 200
"""How long the broker may hold a fetch back while there is nothing new. A partition whose records
nobody had drained when the fetch went out is not in it and waits as long; Faust has 1,500."""
_FETCHED_MAX = 16
"""Batches drained ahead of the agent before aiokafka has to wait."""
_SMALL_FETCH_RECORDS = 256
"""After a smaller fetch the next one waits the linger: one-record fetches would cost half a core
at 1,000 events/s."""


class Fetched(NamedTuple):
    """What was drained of one partition at one moment.

    No records, where what was drained holds none: the markers and aborted records of transactions,
    and what compaction took away. They are passed on, for the commits have to get past them.
    """

    tp: TP
    records: list[Any]
    seeks: int
    """How often the partition had been sought until then."""
    next_offset: int
    """Where the next fetch begins: behind the last record, or behind a gap that follows it."""
    drained_s: float
    """When, in seconds since the epoch."""


@dataclass(slots=True)
class Commits:
    """What the broker has confirmed of our commits since the worker started."""

    count: int = 0
    last_s: float = 0.0
    """Seconds since the epoch; 0 before the first."""
    offsets: dict[TP, int] = field(default_factory=dict)
    """The last one of each partition, also of those that have left us."""


class SourceConsumer(Protocol):
    """What the thread needs to know of the consumer it belongs to."""

    source_topic: str
    linger_s: float
    source_ends: Mapping[int, int]
    isolation_level: str
    loop: asyncio.AbstractEventLoop
    beacon: Any


class NoThread:
    """Stands in for a thread: the service runs in the loop that started it."""

    def __init__(self, service: LeasedConsumerThread) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve until the service is stopped."""
        self._task = self._service.parent_loop.create_task(self._service._serve())

    def stop(self) -> None:
        """Return at once: whoever stops the service waits for its shutdown."""


class LeasedConsumerThread(driver.AIOKafkaConsumerThread):
    """What Faust runs aiokafka's consumer in; here it is no thread, but the worker's own loop.

    Two busy loops in two threads wait for each other's interpreter lock several times per fetch:
    at 1,000 events/s that was most of the time from the broker to the agent. A worker whose loop
    is stuck sends no heartbeats either, so another one takes over.

    It also has a lease, patient commits and complete seeks, and it fetches ahead: what arrives is
    drained at once, whatever the agent does. So each fetch asks for every partition; aiokafka
    leaves those with records not yet drained out of it, and they would wait until it comes back.

    What is drained is passed on if no rebalance was under way at that moment, none is now, and its
    partition has not been sought since. Anything else comes again, for a rebalance ends with a seek
    to the committed offsets, and what is drained after that seek is put back.
    """

    lease_renewed_at = float("-inf")
    """``time.monotonic()`` when a heartbeat was sent that the coordinator then confirmed."""

    _ends: Mapping[TP, int] = MappingProxyType({})
    """Where reading ends, of the partitions that have an end."""

    def __init__(self, consumer: SourceConsumer) -> None:
        loop = consumer.loop
        super().__init__(
            cast(Any, consumer),
            loop=loop,
            thread_loop=loop,
            Worker=cast(Any, NoThread),
            beacon=consumer.beacon,
        )
        self._source_topic = consumer.source_topic
        self._linger_s = consumer.linger_s
        topic = self._source_topic
        # aiokafka's own kind of key, for these are handed back to it, and it is particular.
        self._ends = {
            cast(TP, TopicPartition(topic, n)): e for n, e in consumer.source_ends.items()
        }
        self._isolation_level = consumer.isolation_level
        self._passed: dict[TP, int] = {}
        """Up to where each partition of the source topic is drained, records or not."""
        self._seeks: Counter[TP] = Counter()
        self._fetched: deque[Fetched] = deque()
        self.commits = Commits()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._last_fetch_records = 0

    async def on_start(self) -> None:
        """Start aiokafka's consumer, watch its heartbeats, and fetch."""
        await super().on_start()
        consumer = self._ensure_consumer()
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        heartbeat, fetch = coordinator._do_heartbeat, fetcher._proc_fetch_request

        async def watched_heartbeat() -> bool:
            sent_at = time.monotonic()
            confirmed: bool = await heartbeat()
            if confirmed:
                self.lease_renewed_at = sent_at
            return confirmed

        async def lingering_fetch(*arguments: Any) -> Any:
            # What has just arrived is on its way meanwhile; only the next fetch waits.
            try:
                result = await fetch(*arguments)
                if self._last_fetch_records < _SMALL_FETCH_RECORDS:
                    await asyncio.sleep(self._linger_s)
            except asyncio.CancelledError:
                return False  # as aiokafka's own does: it awaits what it cancels when it is stopped
            return result

        coordinator._do_heartbeat = watched_heartbeat
        fetcher._proc_fetch_request = lingering_fetch
        self.add_future(self._fetch_ahead())

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        consumer._isolation_level = self._isolation_level
        return consumer

    async def take(self, timeout_s: float) -> list[Fetched]:
        """Return what was fetched, current or not, waiting for it at most ``timeout_s``."""
        if not self._fetched:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        taken = [self._fetched.popleft() for _ in range(len(self._fetched))]
        self._taken.set()
        return taken

    @property
    def fetches_waiting(self) -> int:
        """Return how many batches are drained and not taken."""
        return len(self._fetched)

    def is_current(self, fetched: Fetched) -> bool:
        """Tell whether this may be handed on at this moment; if not, it comes again."""
        if self.app.rebalancing and self._is_source(fetched.tp):
            return False
        if fetched.tp not in self._ensure_consumer().assignment():
            return False  # a changelog's, drained before a rebalance took it from us
        return fetched.seeks == self._seeks[fetched.tp]

    async def _fetch_ahead(self) -> None:
        try:
            await self._keep_fetching()
        except ConsumerStoppedError:
            pass
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
            cast(Any, self.app).owner.on_refused(error)

    async def _keep_fetching(self) -> None:
        while not self.should_stop:
            self._hear_coordinator()
            fetched = await self._fetch()
            if not fetched:
                continue
            self._taken.clear()
            self._fetched += fetched
            self._arrived.set()
            if len(self._fetched) >= _FETCHED_MAX:
                await self._taken.wait()

    def _hear_coordinator(self) -> None:
        """Take the error that aiokafka's coordination waits to be asked for, and stands still.

        Raises:
            TopicAuthorizationFailedError, GroupAuthorizationFailedError: no retry mends that.
        """
        coordinator = self._ensure_consumer()._coordinator
        if coordinator._coordination_task.cancelled():
            return
        try:
            coordinator.check_errors()
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
            raise
        except KafkaError as error:
            if coordinator._coordination_task.done():
                raise
            self.log.warning("Group membership, trying again: %r", error)

    async def _fetch(self) -> list[Fetched]:
        consumer = self._ensure_consumer()
        wanted = self._wanted()
        if not wanted:
            await asyncio.sleep(_REBALANCING_POLL_S)
            return []
        records = await self._fetch_records(
            consumer,
            wanted,
            timeout=_REBALANCING_POLL_S if self.app.rebalancing else 1.0,
            max_records=consumer._max_poll_records,
        )
        # From here on no await: what is drained is judged at the moment of draining.
        self._last_fetch_records = sum(map(len, records.values()))
        if self.app.rebalancing:
            self._put_back({tp: of for tp, of in records.items() if self._is_source(tp)})
            records = {tp: of for tp, of in records.items() if not self._is_source(tp)}
        gaps = self._with_gaps(wanted - records.keys())
        drained: dict[TP, list[Any]] = {**{tp: [] for tp in gaps}, **records}
        return [self._drained(tp, of) for tp, of in drained.items()]

    def _with_gaps(self, without_records: set[TP]) -> list[TP]:
        """Return the source's partitions of which something was drained that holds no records."""
        if self.app.rebalancing:
            return []
        return [
            tp
            for tp in without_records
            if tp in self._passed and (self._position(tp) or 0) > self._passed[tp]
        ]

    def _drained(self, tp: TP, records: list[Any]) -> Fetched:
        """Say up to where the partition is drained, and leave out what lies behind its end.

        By position, not by the last record: there may be none right before the end.
        """
        behind = records[-1].offset + 1 if records else 0
        if self._is_source(tp):
            behind = max(behind, self._position(tp) or 0)
            end = self._ends.get(tp)
            if end is not None and behind > end:
                behind = end
                records = [record for record in records if record.offset < end]
            self._passed[tp] = behind
        return Fetched(tp, records, self._seeks[tp], behind, time.time())

    def _has_ended(self, tp: TP) -> bool:
        """Tell whether there is an end and the partition is drained up to it."""
        return tp in self._ends and self._passed.get(tp, 0) >= self._ends[tp]

    def _position(self, tp: TP) -> int | None:
        """Return where aiokafka fetches next; its own method would wait until that is known."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or tp not in assignment.tps:
            return None
        state = assignment.state_value(tp)
        return cast(int, state.position) if state.has_valid_position else None

    def _wanted(self) -> set[TP]:
        """Return the partitions to fetch from now; of the source topic none in a rebalance."""
        if not self.consumer.flow_active:
            return set()
        active = self.consumer._get_active_partitions()
        return {
            tp
            for tp in active
            if not (self.app.rebalancing and self._is_source(tp)) and not self._has_ended(tp)
        }

    def _put_back(self, records: Mapping[TP, list[Any]]) -> None:
        consumer = self._ensure_consumer()
        for tp in records.keys() & consumer.assignment():
            consumer.seek(tp, records[tp][0].offset)

    def _is_source(self, tp: TP) -> bool:
        return bool(tp.topic == self._source_topic)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._seeks.update(partitions.keys())
        self._passed |= partitions
        await super()._seek_wait(consumer, partitions)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say whether a partition stands still, as Faust does; one without a position yet does not.

        aiokafka asserts that there is one, and the worker ended of it right after a rebalance.
        """
        if self._position(tp) is not None:
            super().verify_event_path(now, tp)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to the committed offsets; where there is none, to the beginning.

        aiokafka stays where it is if there is none: what was fetched and dropped in a rebalance
        before the first commit would be gone.
        """
        return cast(Mapping[TP, int], await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in consumer.assignment()}
        never = [tp for tp, offset in committed.items() if not offset and self._is_source(tp)]
        begin = await consumer.beginning_offsets(never) if never else {}
        ours = consumer.assignment()
        for tp, offset in committed.items():
            to = begin.get(tp, offset)
            if to is not None and tp in ours:
                self._seeks[tp] += 1
                self._passed[tp] = to
                consumer.seek(tp, to)
        return committed

    async def on_thread_stop(self) -> None:
        """Leave the group and disconnect."""
        await self._stop_coordinating()
        await super().on_thread_stop()

    async def _stop_coordinating(self) -> None:
        """End our part in a rebalance under way.

        aiokafka joins the group anew before it leaves it, and waits for all others to do so.
        """
        if self._consumer is None:
            return
        coordinating = self._consumer._coordinator._coordination_task
        while not coordinating.done():
            coordinating.cancel()  # perhaps in vain: its heartbeats, if awaited, swallow one
            await asyncio.wait([coordinating], timeout=_CANCEL_AGAIN_S)

    async def _gather_remaining_tasks(self) -> None:
        """Leave the loop's other tasks alone: it is the worker's."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; wait for a lost broker; give up once the partitions are no longer ours.

        Stock Faust crashes on a lost broker, and afterwards takes the offsets for committed.
        """
        consumer = self._ensure_consumer()
        # Faust has pairs of its own, too, where it has seen a gap; aiokafka refuses those.
        wanted = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        while wanted and not self.should_stop:
            try:
                await consumer.commit(wanted)
            except (CommitFailedError, IllegalStateError) as error:
                self.log.warning("Offsets not committed, their new owner goes on: %s", error)
                return False
            except KafkaError as error:
                self.log.warning("Offsets not committed yet, trying again: %r", error)
                await asyncio.sleep(_COMMIT_RETRY_S)
                ours = consumer.assignment()
                wanted = {tp: offset for tp, offset in wanted.items() if tp in ours}
            else:
                now = time.monotonic()
                self.tp_last_committed_at.update(dict.fromkeys(offsets, now))
                self.commits.count += 1
                self.commits.last_s = time.time()
                self.commits.offsets.update({tp: of.offset for tp, of in wanted.items()})
                return True
        return False
