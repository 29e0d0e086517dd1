"""Read topics from the outside, with plain consumers: up to their present end, or on and on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord

from stream_app.errors import FixSettings, WaitForBroker

_POLL_MS = 500


@asynccontextmanager
async def open_consumer(
    bootstrap_servers: str,
    topic: str,
    partitions: Collection[int] | None = None,
    *,
    from_beginning: bool = True,
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a consumer of ``partitions`` (None: all) that belongs to no group.

    Raises:
        WaitForBroker: the broker does not answer.
        FixSettings: the topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await consumer.start()  # without a group: assigned all partitions
        assigned = [tp for tp in consumer.assignment() if partitions is None or tp[1] in partitions]
        if partitions is not None:
            consumer.unsubscribe()
            consumer.assign(assigned)
        await (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*assigned)
        yield consumer
    except UnknownTopicOrPartitionError:
        raise FixSettings(f"no topic {topic}; `interest-stream topics create` makes it") from None
    except KafkaError as error:
        raise WaitForBroker(f"Kafka at {bootstrap_servers}: {error}") from error
    finally:
        await consumer.stop()


async def partition_count(bootstrap_servers: str, topic: str) -> int:
    """Return how many partitions a topic has.

    Raises:
        WaitForBroker: the broker does not answer.
        FixSettings: the topic does not exist.
    """
    async with open_consumer(bootstrap_servers, topic) as consumer:
        return len(consumer.assignment())


async def to_the_end(consumer: AIOKafkaConsumer) -> AsyncIterator[ConsumerRecord]:
    """Yield the records between the consumer's position and the end of now."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    open_ends = {tp: end for tp, end in ends.items() if await consumer.position(tp) < end}
    while open_ends:
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            for record in records:
                yield record
        # The position, not the last record: compaction leaves gaps at the end, too.
        for tp in list(open_ends):
            if await consumer.position(tp) >= open_ends[tp]:
                del open_ends[tp]
