"""All our use of Faust's private names: whole-fetch delivery, exact commits, our table, the lease.

Stock Faust moves one record at a time, which costs it nine tenths of aiokafka's speed. Here one
fetch of one partition travels as one message whose value is the list of records and whose offset
is the last record's. The Faust version is pinned (~=0.15.3); ``tests/unit/test_delivery.py`` says
which name is gone when a new one changes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import faust
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.app.base import BootStrategy
from faust.stores.base import Store
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from state import codec
from state.table import ChangelogRecord, PartitionTable, open_or_rebuild

APPLIED_OFFSET_HEADER = "applied_offset"

_COMMIT_RETRY_S = 0.5
_REBALANCING_POLL_S = 0.05
_FETCH_MAX_WAIT_MS = 200
"""How long the broker may hold a fetch back while there is nothing new. A partition whose records
nobody had drained when the fetch went out is not in it and waits as long; Faust has 1,500."""
_FETCHED_MAX = 16
"""Batches drained ahead of the worker's loop before aiokafka has to wait."""
_SMALL_FETCH_RECORDS = 256
"""After a smaller fetch the next one waits the linger: one-record fetches would cost half a core
at 1,000 events/s."""


class RecordBatch(NamedTuple):
    """One fetch of one partition, on its way from the consumer to the agent."""

    sequence: int
    """Counted per partition from its assignment on: what gets lost inside Faust is noticed."""
    records: list[Any]
    """aiokafka's records, oldest first."""


class PassThrough(faust.Schema[Any, Any]):
    """Hands key and value to the agent as they came."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the key, untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the value, untouched: for the source topic the list of records."""
        return message.value


class Fetched(NamedTuple):
    """What was drained of one partition at one moment."""

    tp: TP
    records: list[Any]
    seeks: int
    """How often the partition had been sought until then."""


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

    What is drained is passed on if no rebalance was under way at that moment and its partition has
    not been sought since. Anything else comes again, for a rebalance ends with a seek to the
    committed offsets, and what is drained after that seek is put back.
    """

    lease_renewed_at = float("-inf")
    """``time.monotonic()`` when a heartbeat was sent that the coordinator then confirmed."""

    def __init__(self, consumer: BatchConsumer) -> None:
        loop = consumer.loop
        super().__init__(
            consumer,
            loop=loop,
            thread_loop=loop,
            Worker=cast(Any, NoThread),
            beacon=consumer.beacon,
        )
        self.linger_s = consumer.linger_s
        self._seeks: Counter[TP] = Counter()
        self._fetched: deque[Fetched] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._last_fetch_records = 0
        self._failure: BaseException | None = None

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
            result = await fetch(*arguments)
            if self._last_fetch_records < _SMALL_FETCH_RECORDS:
                await asyncio.sleep(self.linger_s)
            return result

        coordinator._do_heartbeat = watched_heartbeat
        fetcher._proc_fetch_request = lingering_fetch
        self.add_future(self._fetch_ahead())

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        return consumer

    async def take(self, timeout_s: float) -> list[Fetched]:
        """Return what was fetched, waiting for it in the worker's loop.

        Raises:
            KafkaError: a fetch failed for good.
        """
        if not self._fetched and self._failure is None:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        taken = [self._fetched.popleft() for _ in range(len(self._fetched))]
        self._taken.set()
        rebalancing = self.app.rebalancing
        return [
            each
            for each in taken
            if each.seeks == self._seeks[each.tp] and not (rebalancing and self._is_source(each.tp))
        ]

    async def _fetch_ahead(self) -> None:
        try:
            while not self.should_stop:
                fetched = await self._fetch()
                if not fetched:
                    continue
                self._taken.clear()
                self._fetched += fetched
                self._arrived.set()
                if len(self._fetched) >= _FETCHED_MAX:
                    await self._taken.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failure = error
            self._arrived.set()

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
        return [Fetched(tp, of, self._seeks[tp]) for tp, of in records.items()]

    def _wanted(self) -> set[TP]:
        """Return the partitions to fetch from now; of the source topic none in a rebalance."""
        if not self.consumer.flow_active:
            return set()
        active = self.consumer._get_active_partitions()
        return {tp for tp in active if not (self.app.rebalancing and self._is_source(tp))}

    def _put_back(self, records: Mapping[TP, list[Any]]) -> None:
        consumer = self._ensure_consumer()
        for tp in records.keys() & consumer.assignment():
            consumer.seek(tp, records[tp][0].offset)

    def _is_source(self, tp: TP) -> bool:
        return bool(tp.topic == cast(BatchConsumer, self.consumer).source_topic)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._seeks.update(partitions.keys())
        await super()._seek_wait(consumer, partitions)

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
                consumer.seek(tp, to)
        return committed

    async def _gather_remaining_tasks(self) -> None:
        """Leave the loop's other tasks alone: it is the worker's."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; wait for a lost broker; give up once the partitions are no longer ours.

        Stock Faust crashes on a lost broker, and afterwards takes the offsets for committed.
        """
        consumer = self._ensure_consumer()
        wanted = {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
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
                return True
        return False


class BatchConsumer(driver.Consumer):
    """Delivers each fetch of the source topic as one message, and commits exactly what was acked.

    The agent acknowledges the messages of a partition in order, so the last acknowledged one says
    all; Faust's interval arithmetic over single offsets is not needed for them.
    """

    source_topic: str
    linger_s: float

    def _new_consumer_thread(self) -> LeasedConsumerThread:
        return LeasedConsumerThread(self)

    @property
    def _leased(self) -> LeasedConsumerThread:
        return cast(LeasedConsumerThread, self._thread)

    @property
    def lease_renewed_at(self) -> float:
        """``time.monotonic()`` of the last heartbeat that the coordinator confirmed."""
        return self._leased.lease_renewed_at

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sequences: defaultdict[TP, int] = defaultdict(int)
        self._sequences_since = -1

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield (partition, message) as Faust expects, one message per fetched partition."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        fetched = await self._leased.take(timeout)
        generation = self.app.consumer_generation_id
        for tp, records, _ in fetched:
            if self.should_stop or not self.flow_active:
                return  # a rebalance has begun, and ends with a seek
            if self.app.consumer_generation_id != generation:
                return
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if tp.topic == self.source_topic:
                yield tp, self._batch_message(tp, records, generation)
            else:
                for record in records:
                    yield tp, self._to_message(tp, record)

    def _batch_message(self, tp: TP, records: list[Any], generation: int) -> ConsumerMessage:
        if self._sequences_since != self.app.rebalancing_count:
            self._sequences_since = self.app.rebalancing_count
            self._sequences.clear()
        last = records[-1]
        batch = RecordBatch(self._sequences[tp], records)
        self._sequences[tp] += 1
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            [],
            None,
            batch,  # type: ignore[arg-type]  # where stock Faust has bytes
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != self.source_topic:
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.source_topic:
            return super()._new_offset(tp)
        acked = self._acked[tp]
        if not acked:
            return None
        offset = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return offset


class BatchTransport(driver.Transport):
    """aiokafka's transport with our consumer."""

    Consumer = BatchConsumer


class WindowStore(Store[bytes, bytes]):
    """Faust's view of the windows' databases, one per partition: recovery and rebalancing.

    Reading and writing windows goes to :class:`state.table.PartitionTable` directly.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tables: dict[int, PartitionTable] = {}
        self._refused: defaultdict[int, dict[bytes, int]] = defaultdict(dict)

    def partition(self, partition: int) -> PartitionTable:
        """Return the partition's database, opening (or, if damaged, rebuilding) it."""
        table = self._tables.get(partition)
        if table is None:
            path = Path(self.app.conf.tabledir) / f"{self.table_name}-{partition}.rocksdb"
            cache_bytes = (self.options or {})["block_cache_bytes"]
            table, damage = open_or_rebuild(path, cache_bytes)
            if damage:
                self.log.error("%s was damaged and is rebuilt from the changelog: %s", path, damage)
            self._tables[partition] = table
        return table

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset that the database includes."""
        return self.partition(tp.partition).changelog_offset()

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Remember the changelog offset that the database includes."""
        self.partition(tp.partition).write((), offset)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Restore windows from changelog records, never an older one over a newer one."""
        by_partition: dict[int, list[Any]] = defaultdict(list)
        for event in batch:
            by_partition[event.message.partition].append(event.message)
        for partition, messages in by_partition.items():
            records = [ChangelogRecord(m.key, m.value, _applied_offset(m)) for m in messages]
            refused = self.partition(partition).restore(records, messages[-1].offset)
            self._refused[partition].update(refused)
            if refused:
                self.log.warning(
                    "partition %s: changelog records of a former owner refused for %s users",
                    partition,
                    len(refused),
                )

    def take_refused(self, partition: int) -> dict[bytes, int]:
        """Return, once, whose older records restores refused, and the offset of what is held."""
        return self._refused.pop(partition, {})

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Close the databases of changelog partitions that left us."""
        cast(BatchApp, self.app).on_assigned()
        ours = self.table.changelog_topic.topics
        for tp in revoked:
            if tp.topic in ours:
                self._close(tp.partition)

    def _close(self, partition: int) -> None:
        table = self._tables.pop(partition, None)
        if table is not None:
            table.close()

    async def on_stop(self) -> None:
        """Close every database."""
        for partition in list(self._tables):
            self._close(partition)

    def reset_state(self) -> None:
        """Forget the local copy; the changelog still has it all."""
        for partition in list(self._tables):
            path = self._tables[partition].path
            self._close(partition)
            PartitionTable.destroy(path)

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Not needed: the changelog is the backup."""
        raise NotImplementedError("the changelog topic is the backup of every partition")

    restore_backup = backup_partition  # type: ignore[assignment]


class WindowTable(faust.Table[bytes, bytes]):
    """The table of windows: Faust restores it, checkpoints write it."""

    def partition(self, partition: int) -> PartitionTable:
        """Return the database of a partition's windows."""
        return cast(WindowStore, self.data).partition(partition)

    def take_refused(self, partition: int) -> dict[bytes, int]:
        """Return, once, whose changelog records have to be written again, newer ones."""
        return cast(WindowStore, self.data).take_refused(partition)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Apply what recovery still has in its buffers, then go on as Faust does.

        A standby that takes over may have counted a changelog record as read that lies in a
        buffer; finding nothing left to recover, Faust does not flush it.
        """
        self.app.tables.recovery.flush_buffers()  # type: ignore[attr-defined]
        await super().on_recovery_completed(active_tps, standby_tps)

    def _new_store(self) -> WindowStore:
        return WindowStore(
            "windows://",
            self.app,
            self,
            table_name=self.name,
            loop=self.loop,
            options=self.options,
        )


class AppOwner(Protocol):
    """What surrounds the Faust app: started before it, stopped around it."""

    async def before_start(self) -> None:
        """Get ready; an exception stops the start."""

    async def before_stop(self) -> None:
        """Finish what is in flight while consumer, producer and tables still work."""

    async def after_stop(self) -> None:
        """Release the rest."""


class ClosedBootStrategy(BootStrategy):
    """Starts no web server: Faust's shows all state to anybody, and `faust worker` wants it on."""

    enable_web = False


class BatchApp(faust.App):
    """A Faust app that lets its owner begin before it and end after it."""

    BootStrategy = ClosedBootStrategy
    owner: AppOwner

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rebalance_lock = threading.Lock()
        self._recovering = 0

    def on_rebalance_start(self) -> None:
        """Begin a rebalance, perhaps while another one ends. Called in the consumer's thread."""
        with self._rebalance_lock:
            super().on_rebalance_start()

    def on_assigned(self) -> None:
        """Remember which rebalance it is whose windows are to be restored now."""
        self._recovering = self.rebalancing_count

    def on_rebalance_end(self) -> None:
        """End the rebalance, unless the next one has begun meanwhile, which stock Faust ends."""
        with self._rebalance_lock:
            if self._recovering == self.rebalancing_count:
                super().on_rebalance_end()

    def FlowControlQueue(  # noqa: N802  # Faust's name
        self, maxsize: int | None = None, *, clear_on_resume: bool = False
    ) -> Any:
        """Return a queue that is never emptied behind our back.

        Faust empties its queues whenever flow resumes, twice in one rebalance, and what was
        fetched in between is gone though the consumer has moved on: events for the agent, and
        changelog records for a standby, whose windows then lack them for ever. The agent tells
        what is left from before a rebalance by its generation; a table takes records twice.
        """
        return super().FlowControlQueue(maxsize, clear_on_resume=False)

    async def on_first_start(self) -> None:
        """Let the owner get ready, then start as Faust does."""
        await self.owner.before_start()
        await super().on_first_start()

    async def on_stop(self) -> None:
        """Finish what is in flight, then stop as Faust does."""
        await self.owner.before_stop()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Release what the owner holds, after Faust's own services have stopped."""
        await super().on_shutdown()
        await self.owner.after_stop()


def install_transport(app: faust.App, source_topic: str, linger_ms: float) -> None:
    """Make the app fetch through :class:`BatchConsumer`."""
    consumer = type(
        "SourceConsumer",
        (BatchConsumer,),
        {"source_topic": source_topic, "linger_s": linger_ms / 1000},
    )
    transport = BatchTransport(app.conf.broker_consumer, app)
    transport.Consumer = consumer  # type: ignore[misc, assignment]  # one class per source topic
    app.transport = transport


def recovery_complete(app: faust.App) -> bool:
    """Tell whether the windows of all assigned partitions are restored and events flow."""
    recovery = app.tables._recovery  # type: ignore[attr-defined]
    return bool(recovery and recovery.completed.is_set() and not app.rebalancing)


def _applied_offset(message: Any) -> int:
    """Return the source offset of a changelog record: in the window, or in a tombstone's header."""
    if message.value is not None:
        return codec.applied_offset(message.value)
    headers = message.headers or ()
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if name == APPLIED_OFFSET_HEADER:
            return int(value)
    return 2**62  # a tombstone of no known age, made by hand: it wins
