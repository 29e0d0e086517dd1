"""For services downstream: the latest interest vector of every user, from the updates topic."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.errors import FixData, FixSettings, WaitForBroker
from stream_app.updates import Update, decode

log = logging.getLogger(__name__)

APPLIED_OFFSET_HEADER = "applied_offset"

_MAX_FORGOTTEN = 100_000
"""Deleted users whose offset is kept, against stale records: these lie within a few of Kafka's
session timeouts of the tombstone, and users who fall silent would otherwise fill the memory."""


class Change(NamedTuple):
    """What a record of the updates topic changed.

    ``update`` is ``None`` for a user who is not known any more: forgotten, or silent for so long
    that the worker let them go.
    """

    user_id: str
    update: Update | None
    applied_offset: int


class LatestUpdates:
    """The rule every reader follows, without any Kafka: per user, never back in time.

    A record whose ``applied_offset`` is lower than the one held is stale (a worker published again
    after a restart, or was frozen) and dropped. An equal one replaces: the same window, perhaps
    with an item text that arrived later, or another model.

    Vectors of two models lie in two spaces and must not be compared. ``model_id`` insists on one:
    updates of others are dropped and counted, and the user's last one of this model stays. Without
    it, ``models`` says how many users' vectors are of which, and a second model is a warning in
    the log. Forgetting a user holds for every model.
    """

    def __init__(self, model_id: str | None = None) -> None:
        self._updates: dict[str, Update] = {}
        self._forgotten: dict[str, int] = {}
        self._model_id = model_id
        self._models: Counter[str] = Counter()
        self.dropped = 0
        """Stale records seen."""
        self.dropped_of_other_models = 0
        """Updates seen of models other than the one insisted on."""

    @property
    def updates(self) -> Mapping[str, Update]:
        """User id -> latest update, as a live read-only view."""
        return MappingProxyType(self._updates)

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users whose latest update is of it. More than one: do not compare them."""
        return MappingProxyType(self._models)

    def apply(self, change: Change) -> bool:
        """Take up a change; return whether it was news."""
        if change.update is not None and self._model_id not in (None, change.update.model_id):
            self.dropped_of_other_models += 1
            return False
        held = self._updates.get(change.user_id)
        offset = held.applied_offset if held else self._forgotten.get(change.user_id, -1)
        if change.applied_offset < offset:
            self.dropped += 1
            return False
        if held is not None:
            self._count(held.model_id, -1)
        if change.update is None:
            self._updates.pop(change.user_id, None)
            self._forgotten.pop(change.user_id, None)
            self._forgotten[change.user_id] = change.applied_offset
            if len(self._forgotten) > _MAX_FORGOTTEN:
                del self._forgotten[next(iter(self._forgotten))]
        else:
            self._forgotten.pop(change.user_id, None)
            self._updates[change.user_id] = change.update
            self._count(change.update.model_id, 1)
        return True

    def _count(self, model_id: str, users: int) -> None:
        if model_id not in self._models and self._models:
            log.warning(
                "updates of model %s beside those of %s: vectors of two models must not be "
                "compared; name the one you want as model_id",
                model_id, ", ".join(self._models),
            )  # fmt: skip
        self._models[model_id] += users
        if not self._models[model_id]:
            del self._models[model_id]


def read(record: ConsumerRecord) -> Change:
    """Return the change in a record of the updates topic, JSON or Avro.

    Raises:
        FixData: the record is no update.
    """
    if record.key is None:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        raise FixData(f"an update without a key at {place}")
    user_id = record.key.decode()
    if record.value is not None:
        update = decode(record.value)
        return Change(user_id, update, update.applied_offset)
    for name, value in record.headers:
        if name == APPLIED_OFFSET_HEADER:
            return Change(user_id, None, int(value))
    return Change(user_id, None, 2**62)  # a tombstone made by hand: it wins


class UpdatesReader:
    """Follows the updates topic and keeps the latest update per user, of all models or of one.

    >>> async with UpdatesReader("127.0.0.1:9092") as reader:     # doctest: +SKIP
    ...     await reader.catch_up()
    ...     print(reader.updates["u1"].vector)
    ...     async for change in reader:
    ...         print(change.user_id, change.applied_offset)
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str = "interest.updates",
        *,
        model_id: str | None = None,
    ) -> None:
        self._topic = topic
        self._latest = LatestUpdates(model_id)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    @property
    def updates(self) -> Mapping[str, Update]:
        """User id -> latest update, as a live read-only view."""
        return self._latest.updates

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users whose latest update is of it; one alone where one is insisted on."""
        return self._latest.models

    @property
    def dropped_of_other_models(self) -> int:
        """Updates seen so far of models other than the one insisted on."""
        return self._latest.dropped_of_other_models

    @property
    def dropped(self) -> int:
        """Stale records seen so far."""
        return self._latest.dropped

    async def __aenter__(self) -> Self:
        """Connect, at the beginning of the topic.

        Raises:
            WaitForBroker: no broker answers.
            FixSettings: there is no such topic.
        """
        try:
            await self._consumer.start()
            numbers = await self._partitions()
        except KafkaError as error:
            await self._consumer.stop()
            raise WaitForBroker(f"Kafka does not answer: {error}") from error
        if not numbers:
            await self._consumer.stop()
            raise FixSettings(f"topic {self._topic} does not exist")
        self._consumer.assign([TopicPartition(self._topic, number) for number in numbers])
        await self._consumer.seek_to_beginning()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def catch_up(self) -> None:
        """Read until the present end of the topic."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while True:
            behind = [tp for tp, end in ends.items() if await self._consumer.position(tp) < end]
            if not behind:
                return
            await self._fetch(500)

    async def __aiter__(self) -> AsyncIterator[Change]:
        """Yield every change that is news, for ever."""
        while True:
            for change in await self._fetch(1000):
                yield change

    async def _fetch(self, timeout_ms: int) -> list[Change]:
        fetched = await self._consumer.getmany(timeout_ms=timeout_ms)
        changes = [read(record) for records in fetched.values() for record in records]
        return [change for change in changes if self._latest.apply(change)]

    async def _partitions(self) -> list[int]:
        await self._consumer._client.force_metadata_update()
        topics = await self._consumer.topics()
        if self._topic not in topics:
            return []
        return sorted(self._consumer.partitions_for_topic(self._topic) or ())
