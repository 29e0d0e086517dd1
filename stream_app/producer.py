"""Produce batches: ordered per partition, bounded in time, failing aloud."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream_app.errors import InterestStreamError, WaitForBroker
from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import refusal, unanswered

MAX_BATCH_BYTES = 900_000
"""Under Kafka's default message.max.bytes of 1,048,588 with room for the batch header."""

Headers = list[tuple[str, bytes]]
_NO_HEADERS: Headers = []


class DeliveryFailed(InterestStreamError):
    """The broker did not acknowledge in time. What was sent may or may not be in the log."""


class OutRecord(NamedTuple):
    """A record on its way out."""

    key: bytes | None
    value: bytes | None
    headers: Headers = _NO_HEADERS


class BatchProducer:
    """An aiokafka producer that takes whole batches for a partition.

    Idempotence stays off: with it, publishing stood still without a word after leader changes
    (DESIGN.md, measured). Order holds all the same, since aiokafka keeps one batch of a partition
    in flight and batches of a partition queue up here.
    """

    def __init__(self, bootstrap_servers: Brokers, delivery_timeout_s: float) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = delivery_timeout_s
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._producer: AIOKafkaProducer | None = None

    async def start(self, topics: Sequence[str]) -> None:
        """Connect, and wait until every partition of the topics has a leader.

        Raises:
            WaitForBroker: no leader within the delivery timeout.
        """
        self._producer = AIOKafkaProducer(
            **client_options(self._bootstrap_servers),
            acks="all",
            enable_idempotence=False,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=8 * MAX_BATCH_BYTES,
            request_timeout_ms=int(self._timeout_s * 1000),
            retry_backoff_ms=100,
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            raise await unanswered(error, self._bootstrap_servers) from error
        for topic in topics:
            try:
                await asyncio.wait_for(self._producer.partitions_for(topic), self._timeout_s)
            except (TimeoutError, KafkaError) as error:
                raise WaitForBroker(f"topic {topic} has no leader: {error!r}") from None

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return len(await self._started().partitions_for(topic))

    async def send(
        self,
        topic: str,
        partition: int,
        records: Sequence[OutRecord],
        *,
        allowed: Callable[[], bool] = lambda: True,
    ) -> int:
        """Deliver the records in order and return the offset of the last one.

        Batches for the same partition are delivered in the order of the calls. ``allowed`` is
        asked when the batch's turn has come.

        Raises:
            DeliveryFailed: not acknowledged within the delivery timeout, or not allowed any more.
            KafkaRefuses: an ACL is missing; trying again would not help.
        """
        async with self._turns[topic, partition]:
            if not allowed():
                raise DeliveryFailed(f"{topic}/{partition}: the lease ran out before the turn came")
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._send(topic, partition, records)
            except (TimeoutError, KafkaError) as error:
                refused = refusal(error, self._bootstrap_servers)
                if refused is not None:
                    raise refused from error
                raise DeliveryFailed(
                    f"{len(records)} records for {topic}/{partition} not acknowledged within "
                    f"{self._timeout_s:g} s: {error!r}"
                ) from error

    async def _send(self, topic: str, partition: int, records: Sequence[OutRecord]) -> int:
        producer = self._started()
        last = -1
        at = 0
        while at < len(records):
            builder = producer.create_batch()
            start = at
            while at < len(records):
                key, value, headers = records[at]
                if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    break
                at += 1
            if at == start:
                raise DeliveryFailed(
                    f"a record of {_size(records[at])} bytes for {topic} is larger than a batch "
                    f"may be ({MAX_BATCH_BYTES} bytes)"
                )
            builder.close()
            delivered = await producer.send_batch(builder, topic, partition=partition)
            metadata = await delivered
            last = metadata.offset + (at - start) - 1
        return last

    async def stop(self) -> None:
        """Disconnect. What is not acknowledged by now was not awaited by anybody."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise DeliveryFailed("the producer is not connected")
        return self._producer


def _size(record: OutRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")
