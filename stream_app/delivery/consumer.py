"""Faust's consumer, but one fetch of one partition is one message, and commits are exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import faust
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream_app.delivery.fetching import Commits, Fetched, LeasedConsumerThread


class RecordBatch(NamedTuple):
    """One fetch of one partition, on its way from the consumer to the agent."""

    sequence: int
    """Counted per partition from its assignment on: what gets lost inside Faust is noticed."""
    records: list[Any]
    """aiokafka's records, oldest first. None, where only the commits have to go on."""
    next_offset: int
    """Where the next fetch begins; acknowledged, this is what is committed."""
    drained_s: float
    """When it was drained from aiokafka's consumer, in seconds since the epoch."""


class PassThrough(faust.Schema[Any, Any]):
    """Hands key and value to the agent as they came."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the key, untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the value, untouched: for the source topic the list of records."""
        return message.value


class BatchConsumer(driver.Consumer):
    """Delivers each fetch of the source topic as one message, and commits exactly what was acked.

    The agent acknowledges the messages of a partition in order, so the last acknowledged one says
    all; Faust's interval arithmetic over single offsets is not needed for them.
    """

    source_topic: str
    linger_s: float
    source_ends: Mapping[int, int]
    """Partition -> offset at which reading ends; partitions without one are followed for ever."""
    isolation_level: str

    def _new_consumer_thread(self) -> LeasedConsumerThread:
        return LeasedConsumerThread(self)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sequences: defaultdict[TP, int] = defaultdict(int)
        self._sequences_since = -1

    @property
    def _leased(self) -> LeasedConsumerThread:
        return cast(LeasedConsumerThread, self._thread)

    @property
    def lease_renewed_at(self) -> float:
        """``time.monotonic()`` of the last heartbeat that the coordinator confirmed."""
        return self._leased.lease_renewed_at

    @property
    def commits(self) -> Commits:
        """What the broker has confirmed of our commits."""
        return self._leased.commits

    @property
    def fetches_waiting(self) -> int:
        """Return how many fetches are drained and not yet on their way to the agent."""
        return self._leased.fetches_waiting

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Ask the broker up to which offset these source partitions can be read.

        Raises:
            KafkaError: it did not answer.
        """
        wanted = [TopicPartition(self.source_topic, number) for number in partitions]
        found = await self._leased._ensure_consumer().end_offsets(wanted)
        return {tp.partition: end for tp, end in found.items()}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield (partition, message) as Faust expects, one message per fetched partition."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        fetched = await self._leased.take(timeout)
        generation = self.app.consumer_generation_id
        for each in fetched:
            if self.should_stop or not self.flow_active:
                return  # a rebalance has begun, and ends with a seek
            if self.app.consumer_generation_id != generation:
                return
            if not self._leased.is_current(each):
                continue  # Faust may have kept us waiting, and a rebalance has begun meanwhile
            self.app.monitor.track_tp_end_offset(each.tp, self.highwater(each.tp))
            if each.tp.topic == self.source_topic:
                yield each.tp, self._batch_message(each, generation)
            else:
                for record in each.records:
                    yield each.tp, self._to_message(each.tp, record)

    def highwater(self, tp: TP) -> int:
        """Return the offset up to which the partition can be read at present."""
        if self.isolation_level == "read_committed":
            stable = self._leased._ensure_consumer().last_stable_offset(tp)
            if stable is not None and stable >= 0:
                return cast(int, stable)
        return super().highwater(tp)

    def _batch_message(self, fetched: Fetched, generation: int) -> ConsumerMessage:
        tp = fetched.tp
        if self._sequences_since != self.app.rebalancing_count:
            self._sequences_since = self.app.rebalancing_count
            self._sequences.clear()
        batch = RecordBatch(
            self._sequences[tp], fetched.records, fetched.next_offset, fetched.drained_s
        )
        self._sequences[tp] += 1
        last = fetched.records[-1] if fetched.records else None
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            fetched.next_offset - 1,
            last.timestamp / 1000 if last else 0.0,
            last.timestamp_type if last else 0,
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


def install_transport(
    app: faust.App,
    source_topic: str,
    linger_ms: float,
    isolation_level: str,
    source_ends: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Make the app fetch through :class:`BatchConsumer`, up to ``source_ends`` where given."""
    consumer = type(
        "SourceConsumer",
        (BatchConsumer,),
        {
            "source_topic": source_topic,
            "linger_s": linger_ms / 1000,
            "source_ends": source_ends,
            "isolation_level": isolation_level,
        },
    )
    transport = BatchTransport(app.conf.broker_consumer, app)
    transport.Consumer = consumer  # type: ignore[misc, assignment]  # one class per source topic
    app.transport = transport
