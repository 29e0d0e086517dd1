"""A plain Kafka client: nothing of the worker in it, so it can bear witness."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.harness.deadline import eventually

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """What a test produces. ``partition`` None: by the key, as any producer would."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True)
class Record:
    """What lies in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: dict[str, bytes] = field(default_factory=dict)


class KafkaClient:
    """Blocking calls on one broker. One instance per thread: it owns an event loop."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._loop = asyncio.new_event_loop()
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None

    def close(self) -> None:
        """Close the connections. The instance cannot be used again."""
        if self._reader is not None:
            self._run(self._reader.stop())
        if self._admin is not None:
            self._run(self._admin.close())
        self._loop.close()

    def create_topic(self, name: str, partitions: int, **config: str) -> None:
        """Create one topic with replication factor 1."""
        self._run(self._create([NewTopic(name, partitions, 1, topic_configs=config)]))

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete those of ``names`` that exist."""
        self._run(self._delete(set(names)))

    def alter_topic(self, name: str, configs: dict[str, str]) -> None:
        """Replace the settings of a topic that differ from the broker's."""
        self._run(self._alter(ConfigResource(ConfigResourceType.TOPIC, name, configs)))

    def make_cleaner_eager(self) -> None:
        """Have the broker look every half second, instead of 15, for something to compact."""
        self._run(self._make_cleaner_eager())

    def topics(self) -> set[str]:
        """Return the names of all topics."""
        return self._run(self._topics())

    def produce(self, topic: str, messages: Iterable[Message]) -> None:
        """Write all ``messages`` in order and wait for every acknowledgement."""
        self._run(_produce(self.bootstrap, topic, list(messages)))

    def produce_in_transaction(self, topic: str, messages: Iterable[Message]) -> None:
        """Write ``messages`` as one transaction: each partition written to ends with a marker."""
        last = self._run(_produce_in_transaction(self.bootstrap, topic, list(messages)))

        def marked() -> bool:
            ends = self.ends(topic)
            return all(ends[number] > offset + 1 for number, offset in last.items())

        # Kafka writes the markers behind its answer to the commit.
        eventually(marked, what=f"a marker at the end of each partition of {topic}")

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records of each partition before an offset, as retention does."""
        self._run(self._delete_records(topic, before))

    def read(self, topic: str) -> list[Record]:
        """Return everything in ``topic`` from its beginning to its end as of now.

        Sorted by partition, then offset.
        """
        return self._run(self._read(topic))

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition."""
        return self._run(self._ends(topic))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the committed offset of each partition that has one."""
        return self._run(self._committed(group, topic))

    def rewind(self, group: str, topic: str) -> None:
        """Set the group's offsets to the beginning; nobody may be in the group."""
        self._run(self._rewind(group, topic))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _connected(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            self._admin = admin
        return self._admin

    async def _create(self, topics: Sequence[NewTopic]) -> None:
        await (await self._connected()).create_topics(list(topics))

    async def _alter(self, *resources: ConfigResource) -> None:
        for response in await (await self._connected()).alter_configs(list(resources)):
            for code, message, *_ in response.resources:
                assert code == 0, message

    async def _make_cleaner_eager(self) -> None:
        cluster = await (await self._connected()).describe_cluster()
        configs = {"log.cleaner.backoff.ms": "500"}
        await self._alter(
            *(
                ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"]), configs)
                for broker in cluster["brokers"]
            )
        )

    async def _topics(self) -> set[str]:
        return set(await (await self._connected()).list_topics())

    async def _delete(self, names: set[str]) -> None:
        there = names & await self._topics()
        if there:
            await (await self._connected()).delete_topics(sorted(there))

    async def _committed(self, group: str, topic: str) -> dict[int, int]:
        admin = await self._connected()
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:  # the very first group of a new broker
            return {}
        return {
            tp.partition: meta.offset
            for tp, meta in offsets.items()
            if tp.topic == topic and meta.offset >= 0
        }

    async def _delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        wanted = {
            TopicPartition(topic, number): RecordsToDelete(offset)
            for number, offset in before.items()
        }
        await (await self._connected()).delete_records(wanted)

    async def _rewind(self, group: str, topic: str) -> None:
        partitions = await self._partitions(topic)
        member = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False
        )
        await member.start()
        try:
            member.assign(partitions)
            await member.commit(dict.fromkeys(partitions, 0))
        finally:
            await member.stop()

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        (described,) = await (await self._connected()).describe_topics([topic])
        numbers = sorted(found["partition"] for found in described["partitions"])
        assert numbers, f"topic {topic} does not exist"
        return [TopicPartition(topic, number) for number in numbers]

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
            await reader.start()
            self._reader = reader
        return self._reader

    async def _ends(self, topic: str) -> dict[int, int]:
        ends = await (await self._consumer()).end_offsets(await self._partitions(topic))
        return {tp.partition: end for tp, end in ends.items()}

    async def _read(self, topic: str) -> list[Record]:
        consumer = await self._consumer()
        partitions = await self._partitions(topic)
        found: list[Record] = []
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=500)
            for tp, batch in batches.items():
                found += [_record(raw) for raw in batch if raw.offset < ends[tp]]
        consumer.unsubscribe()
        return sorted(found, key=lambda record: (record.partition, record.offset))


async def _produce(bootstrap: str, topic: str, messages: list[Message]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=5, max_request_size=16 << 20
    )
    await producer.start()
    try:
        waiting = [
            await producer.send(
                topic,
                key=message.key,
                value=message.value,
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
            )
            for message in messages
        ]
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


async def _produce_in_transaction(
    bootstrap: str, topic: str, messages: list[Message]
) -> dict[int, int]:
    """Return the last offset in each partition that was written to."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-writer")
    await producer.start()
    try:
        async with producer.transaction():
            sent = [
                await producer.send(topic, key=message.key, value=message.value)
                for message in messages
            ]
        written = [await each for each in sent]
    finally:
        await producer.stop()
    return {each.partition: each.offset for each in written}


def _record(raw: Any) -> Record:
    return Record(
        raw.topic,
        raw.partition,
        raw.offset,
        raw.key,
        raw.value,
        raw.timestamp,
        dict(raw.headers),
    )
