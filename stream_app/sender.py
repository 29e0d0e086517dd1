"""Produce records one by one, as an application would: in order, bounded, acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import unanswered

_IN_FLIGHT_MAX = 10_000
"""Records handed over and not acknowledged yet."""

Acknowledged = Callable[[bytes, int, int, float], None]
"""Called with key, partition, offset and the ``time.perf_counter()`` of the hand-over."""


@asynccontextmanager
async def open_sender(bootstrap_servers: Brokers) -> AsyncIterator[Sender]:
    """Yield a connected sender; leaving the block waits for every acknowledgement.

    Raises:
        WaitForBroker: the broker does not answer, or does not acknowledge.
    """
    producer = AIOKafkaProducer(
        **client_options(bootstrap_servers), acks="all", enable_idempotence=False, linger_ms=1
    )
    try:
        await producer.start()
        sender = Sender(producer)
        yield sender
        await sender.settle()
    except KafkaError as error:
        raise await unanswered(error, bootstrap_servers) from error
    finally:
        await producer.stop()


class Sender:
    """Sends records with their keys' partitions; one key's records keep their order."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._in_flight = 0
        self._failure: BaseException | None = None
        self.acknowledged = 0

    async def send(
        self, topic: str, key: bytes, value: bytes | None, on_ack: Acknowledged | None = None
    ) -> None:
        """Hand one record over; wait only when too many are not acknowledged yet."""
        self._raise_failure()
        await self._room.acquire()
        sent_at = time.perf_counter()
        delivery = await self._producer.send(topic, key=key, value=value)
        self._in_flight += 1

        def settled(done: asyncio.Future[Any]) -> None:
            self._room.release()
            self._in_flight -= 1
            if done.cancelled() or (failure := done.exception()) is not None:
                self._failure = self._failure or (None if done.cancelled() else failure)
                return
            self.acknowledged += 1
            if on_ack is not None:
                metadata = done.result()
                on_ack(key, metadata.partition, metadata.offset, sent_at)

        delivery.add_done_callback(settled)

    async def settle(self) -> None:
        """Wait until everything sent is acknowledged."""
        await self._producer.flush()
        await asyncio.sleep(0)  # the last callbacks run in the loop's next turn
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


async def paced(
    records: Iterable[tuple[bytes, bytes]], rate: float
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield ``records`` at ``rate`` per second on average (0: as fast as they are taken).

    A pause is made every hundredth of a second at most: a sleep per record would cap the rate.
    """
    start = time.perf_counter()
    for number, record in enumerate(records):
        if rate > 0:
            early_s = number / rate - (time.perf_counter() - start)
            if early_s > 0.01:
                await asyncio.sleep(early_s)
        yield record
