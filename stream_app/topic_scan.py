"""Read topics from the outside, with plain consumers: up to their present end, or on and on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import unanswered
from stream_app.topics import partition_count

_POLL_MS = 500
_FETCH_BYTES = 1 << 20
"""Of one partition at once: aiokafka's default."""


@asynccontextmanager
async def open_consumer(
    bootstrap_servers: Brokers,
    topic: str,
    partitions: Collection[int] | None = None,
    *,
    from_beginning: bool = True,
    fetch_bytes: int = _FETCH_BYTES,
    isolation_level: str = "read_committed",
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a consumer of ``partitions`` (None: all) that belongs to no group.

    What was aborted never happened, unless ``isolation_level`` says otherwise.

    Raises:
        WaitForBroker: the broker does not answer.
        FixSettings: the topic does not exist.
    """
    # Asked first: a consumer of a topic that does not exist waits for it most of a minute.
    count = await partition_count(bootstrap_servers, topic)
    wanted = range(count) if partitions is None else partitions
    assigned = [TopicPartition(topic, number) for number in wanted]
    consumer = AIOKafkaConsumer(
        **client_options(bootstrap_servers),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation_level,
        max_partition_fetch_bytes=fetch_bytes,
    )
    try:
        await consumer.start()
        consumer.assign(assigned)
        await (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*assigned)
        yield consumer
    except KafkaError as error:
        raise await unanswered(error, bootstrap_servers) from error
    finally:
        await consumer.stop()


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
