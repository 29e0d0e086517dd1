"""Are the topics still those that the worker began with? Looked at while it runs, and when
partitions come to it.

Kafka lets anybody delete a topic under a running worker, and make it anew under the same name. In a
new events topic offsets begin again, and what a window takes for redelivered would be new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from state import codec, era
from stream_app import topics
from stream_app.errors import FixSettings, WaitForBroker
from stream_app.kafka_access import client_options
from stream_app.kafka_refusals import KafkaRefuses
from stream_app.producer import DeliveryFailed
from stream_app.settings import Settings

log = logging.getLogger("stream_app.topic_watch")

_LOOK_S = 5.0
_READ_TIMEOUT_S = 10.0
_POLL_MS = 200
_TAIL_RECORDS = 2
"""Windows of each partition held against the events they were made of. In another log the same
users would have to lie at the very same offsets."""


async def watch(settings: Settings) -> None:
    """Look at the topics every few seconds, for ever.

    Raises:
        FixSettings: one has gone, or has another number of partitions.
    """
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await topics.check(settings)
        except WaitForBroker as error:
            log.debug("Topics not looked at: %s", error)
        except KafkaRefuses:
            raise
        except FixSettings as error:
            raise FixSettings(
                f"while the worker ran, topics were deleted or changed: {error}. What lay in them "
                "is gone; the worker does not go on as if nothing had happened"
            ) from None


async def must_belong_together(settings: Settings, partitions: Collection[int]) -> None:
    """Hold the last windows of the changelog against the events they say were folded last.

    Raises:
        FixSettings: the events topic is another one than the windows are of.
        DeliveryFailed: the broker did not answer.
    """
    if not partitions:  # assigned none, aiokafka's consumer raises CancelledError when it stops
        return
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S), _consumer(settings) as consumer:
            for window in await _last_windows(consumer, settings.changelog_topic, partitions):
                await _must_be_of(consumer, settings, window)
    except (KafkaError, TimeoutError) as error:
        raise DeliveryFailed(f"windows not held against events: {error!r}") from error


async def _last_windows(
    consumer: AIOKafkaConsumer, topic: str, partitions: Collection[int]
) -> list[ConsumerRecord]:
    """Return the last records of each partition that are windows, a few at the most."""
    tps = [TopicPartition(topic, number) for number in partitions]
    ends = await consumer.end_offsets(tps)
    starts = await consumer.beginning_offsets(tps)
    consumer.assign(tps)
    for tp in tps:
        consumer.seek(tp, max(starts[tp], ends[tp] - _TAIL_RECORDS))
    found: list[ConsumerRecord] = []
    while any([await consumer.position(tp) < ends[tp] for tp in tps]):
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            found += [
                record
                for record in records
                if record.value is not None and not era.is_mark(record.key)
            ]
    return found


async def _must_be_of(
    consumer: AIOKafkaConsumer, settings: Settings, window: ConsumerRecord
) -> None:
    tp = TopicPartition(settings.events_topic, window.partition)
    offset = codec.applied_offset(window.value)
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp]
    if offset >= end:
        raise _made_anew(settings, tp, f"its offsets end at {end}, the windows' at {offset + 1}")
    if offset < (await consumer.beginning_offsets([tp]))[tp]:
        return  # deleted by retention meanwhile: nothing to compare with
    consumer.seek(tp, offset)
    pseudonyms = settings.pseudonyms()

    def key_of(record: ConsumerRecord) -> bytes:
        return pseudonyms.of_key(record.key) if pseudonyms and record.key else record.key

    while await consumer.position(tp) <= offset:
        for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=1)).get(tp, ()):
            if record.offset == offset and key_of(record) != window.key:
                raise _made_anew(
                    settings,
                    tp,
                    f"at offset {offset} lies the event of another user than the one whose window "
                    "was made of it",
                )


def _made_anew(settings: Settings, tp: TopicPartition, found: str) -> FixSettings:
    return FixSettings(
        f"{tp.topic}/{tp.partition} is not the log that the windows of {settings.changelog_topic} "
        f"were made of: {found}. If the topic was deleted and made anew, or pseudonym_key_file has "
        "changed, set another app_id, whose windows begin with it"
    )


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=settings.isolation_level,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
