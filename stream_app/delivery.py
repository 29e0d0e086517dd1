"""All our use of Faust's private names: whole-fetch delivery, exact commits, our table, the lease.

Stock Faust moves one record at a time, which costs it nine tenths of aiokafka's speed. Here one
fetch of one partition travels as one message whose value is the list of records and whose offset
is the last record's. The Faust version is pinned (~=0.15.3); ``tests/unit/test_delivery.py`` says
which name is gone when a new one changes them.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
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


class LeasedConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's thread, but it remembers its last good heartbeat and commits patiently."""

    lease_renewed_at = float("-inf")
    """``time.monotonic()`` when a heartbeat was sent that the coordinator then confirmed."""

    async def on_start(self) -> None:
        """Start aiokafka's consumer and watch its heartbeats."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        heartbeat = coordinator._do_heartbeat

        async def watched() -> bool:
            sent_at = time.monotonic()
            confirmed: bool = await heartbeat()
            if confirmed:
                self.lease_renewed_at = sent_at
            return confirmed

        coordinator._do_heartbeat = watched

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
    _last_fetch_records = _SMALL_FETCH_RECORDS

    def _new_consumer_thread(self) -> LeasedConsumerThread:
        return LeasedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def lease_renewed_at(self) -> float:
        """``time.monotonic()`` of the last heartbeat that the coordinator confirmed."""
        return self._thread.lease_renewed_at  # type: ignore[attr-defined,no-any-return]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sequences: defaultdict[TP, int] = defaultdict(int)
        self._sequences_since = -1
        self._held: list[tuple[int, TP, list[Any]]] = []

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield (partition, message) as Faust expects, one message per fetched partition."""
        await self._ready()
        for tp, batch in self._released():
            yield tp, self._batch_message(tp, batch, self.app.consumer_generation_id)
        wanted = self._wanted()
        if not wanted:
            await asyncio.sleep(_REBALANCING_POLL_S)
            return
        rebalancing = self.app.rebalancing
        records = await self._getmany(wanted, _REBALANCING_POLL_S if rebalancing else timeout)
        generation = self.app.consumer_generation_id
        if self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        self._last_fetch_records = sum(map(len, records.values())) or _SMALL_FETCH_RECORDS
        for tp, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if tp.topic == self.source_topic:
                if self.app.rebalancing:
                    self._held.append((generation, tp, batch))
                else:
                    yield tp, self._batch_message(tp, batch, generation)
            else:
                for record in batch:
                    yield tp, self._to_message(tp, record)

    async def _ready(self) -> None:
        """Wait while flow is stopped, and a little after a small fetch."""
        if self._last_fetch_records < _SMALL_FETCH_RECORDS:
            await asyncio.sleep(self.linger_s)
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())

    def _released(self) -> list[tuple[TP, list[Any]]]:
        """Return what was fetched at the very end of a rebalance, once that is over.

        A fetch begun before a rebalance may come back between its last seek and its end. The
        consumer has moved on past these records, so they must not be dropped.
        """
        if not self._held or self.app.rebalancing:
            return []
        held, self._held = self._held, []
        current = self.app.consumer_generation_id
        return [(tp, batch) for generation, tp, batch in held if generation == current]

    def _wanted(self) -> set[TP]:
        """Return the partitions to fetch from now.

        Of the source topic none before a rebalance is over: at its end Faust empties the agents'
        queues once more, and what it fetched a moment earlier would be gone.
        """
        active = self._get_active_partitions()
        if not self.app.rebalancing:
            return set(active)
        return {tp for tp in active if tp.topic != self.source_topic}

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
