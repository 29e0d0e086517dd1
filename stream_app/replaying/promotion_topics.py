"""What the live topics and a shadow's say last, partition by partition, and by which model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from stream_app.reader import read
from stream_app.replaying.promotion_verdicts import Last
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.topics import partition_of

PROMOTED_HEADER = "promoted"
"""Of an update that a promotion copied; its value names the replay."""


class Evidence(NamedTuple):
    """By which model somebody published, and when."""

    timestamp_ms: int
    model_id: str


class UpdatesPartition:
    """One partition of an updates topic, read on and on to its present end."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """``consumer``: has that partition alone, from its beginning."""
        self._consumer = consumer
        self.last: dict[bytes, Last] = {}
        """User -> the last word, by the reader's rule."""
        self.newest: Evidence | None = None
        """Of the newest update that a worker, not a promotion, published."""

    async def catch_up(self) -> None:
        """Read to the end of now."""
        async for record in to_the_end(self._consumer):
            if record.key is not None:
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        change = read(record)
        held = self.last.get(record.key)
        if held is None or change.applied_offset >= held.applied_offset:
            self.last[record.key] = _last(record)
        promoted = any(name == PROMOTED_HEADER for name, _ in record.headers)
        if change.update is not None and not promoted:
            self.newest = Evidence(record.timestamp, change.update.model_id)


def _last(record: ConsumerRecord) -> Last:
    change = read(record)
    update = change.update
    if update is None:
        return Last(change.applied_offset, None, record.offset)
    return Last(
        change.applied_offset,
        update.model_id,
        record.offset,
        update.event_count,
        update.time_ms,
    )


@asynccontextmanager
async def open_partition(
    settings: Settings, number: int
) -> AsyncIterator[tuple[UpdatesPartition, AIOKafkaConsumer]]:
    """Yield one partition of the updates topic of these settings, not read yet, and its reader.

    Raises:
        WaitForBroker: the broker does not answer.
    """
    async with open_consumer(settings.kafka, settings.updates_topic, [number]) as consumer:
        yield UpdatesPartition(consumer), consumer


async def item_evidence(settings: Settings) -> dict[int, Evidence]:
    """Return source partition -> the newest item vector published by whoever holds it.

    A worker that starts with another model publishes the vectors of its items anew, and an item is
    the owner's of the source partition that its id hashes to. So this tells the model of a worker
    whose users are silent, too.
    """
    found: dict[int, Evidence] = {}
    async with open_consumer(settings.kafka, settings.item_vectors_topic) as consumer:
        async for record in to_the_end(consumer):
            model_id = dict(record.headers).get("model_id")
            if record.key is None or record.value is None or model_id is None:
                continue
            number = partition_of(record.key, settings.partitions)
            evidence = Evidence(record.timestamp, model_id.decode())
            found[number] = max(found.get(number, evidence), evidence)
    return found


def newest(*found: Evidence | None) -> Evidence | None:
    """Return the newest of several."""
    return max((each for each in found if each is not None), default=None)
