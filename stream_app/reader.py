"""For services downstream: the latest interest vector of every user, from the updates topic."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Literal, Self, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.errors import FixData, FixSettings, WaitForBroker
from stream_app.latest_updates import NOT_SAID, Change, LatestUpdates, Staleness
from stream_app.model_switch import ModelSwitch, SwitchingUpdates
from stream_app.topics import partition_count
from stream_app.updates import Update, decode

__all__ = [
    "Change",
    "LatestUpdates",
    "ModelSwitch",
    "Staleness",
    "Start",
    "SwitchingUpdates",
    "UpdatesReader",
    "read",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

APPLIED_OFFSET_HEADER = "applied_offset"

Start = Literal["earliest", "now"] | int
"""Where to begin: at the beginning of the topic, at its end, or at a time in ms since the epoch."""

_POLL_S = 0.5
_RETRY_S = 1.0
_FETCH_BYTES = 4 << 20
"""Of one partition: a thousand updates of 384 dimensions as JSON, so that a first reading is not
kept by round trips. A fetch of 16 partitions may take 64 MiB."""
_METADATA_MS = 30_000
"""How long more partitions may go unnoticed."""
_POISON_LINES = 20
"""Logged in full; a topic full of something else must not fill a disk with log lines."""


def read(record: ConsumerRecord) -> Change:
    """Return the change in a record of the updates topic, JSON or Avro.

    Raises:
        FixData: the record is no update; the message says where it lies.
    """
    try:
        return _read(record)
    except (FixData, ValueError) as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        raise FixData(f"{place}: {error}") from error


def _read(record: ConsumerRecord) -> Change:
    if record.key is None:
        raise FixData("an update without a key")
    user_id, update = record.key.decode(), None
    if record.value is not None:
        update = decode(record.value)
        if update.user_id != user_id:
            raise FixData(f"an update of {update.user_id!r} with the key {user_id!r}")
        offset = update.applied_offset
    else:
        told = [value for name, value in record.headers if name == APPLIED_OFFSET_HEADER]
        offset = int(told[0]) if told else NOT_SAID
    return Change(user_id, update, offset, record.partition, record.timestamp)


class UpdatesReader:
    """Follows the updates topic and keeps the latest update per user, of all models or of one.

    >>> async with UpdatesReader("127.0.0.1:9092") as reader:     # doctest: +SKIP
    ...     await reader.catch_up()
    ...     print(reader.updates["u1"].vector)
    ...     async for change in reader:
    ...         print(change.user_id, change.applied_offset)

    ``start`` says where to begin. ``model_id`` insists on one model. With ``on_switch`` it is the
    first one: another takes over for all users at once when a ``switch_share`` of them have a
    vector of it (see ``SwitchingUpdates``); then ``on_switch`` is called, and every change handed
    out afterwards is of the new model.

    It belongs to no group and commits nothing. A broker that is away is waited for; a record that
    is no update is counted in ``poison``, logged and passed over. Not for several tasks at once.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str = "interest.updates",
        *,
        start: Start = "earliest",
        model_id: str | None = None,
        on_switch: Callable[[ModelSwitch], None] | None = None,
        switch_share: float = 1.0,
    ) -> None:
        if on_switch is not None and start != "earliest":
            raise FixSettings(f"on_switch needs all users: start must be 'earliest', not {start!r}")
        self.poison = 0
        """Records seen that are no updates."""
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._start = start
        self._latest = (
            LatestUpdates(model_id)
            if on_switch is None
            else SwitchingUpdates(on_switch, model_id=model_id, share=switch_share)
        )
        self._undelivered: deque[Change] = deque()
        self._first_ends: dict[TopicPartition, int] = {}
        self._frontier: dict[int, int] = {}
        self._source_topic = ""

    @property
    def updates(self) -> Mapping[str, Update]:
        """User id -> latest update, as a live read-only view (until a model switch)."""
        return self._latest.updates

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users whose latest update is of it; one alone where one is insisted on."""
        return self._latest.models

    @property
    def model_id(self) -> str | None:
        """The model insisted on, or with ``on_switch`` the one handed out now."""
        return self._latest.model_id

    @property
    def dropped_of_other_models(self) -> int:
        """Updates seen so far of models other than the one insisted on."""
        return self._latest.dropped_of_other_models

    @property
    def dropped(self) -> int:
        """Stale records seen so far."""
        return self._latest.dropped

    def staleness(self, user_id: str, now_ms: int) -> Staleness | None:
        """Return how old a user's vector is at ``now_ms``; ``None`` where there is none."""
        return self._latest.staleness(user_id, now_ms)

    async def __aenter__(self) -> Self:
        """Connect, and go to the start.

        Raises:
            WaitForBroker: no broker answers.
            FixSettings: there is no such topic.
        """
        count = await partition_count(self._bootstrap_servers, self._topic)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            metadata_max_age_ms=_METADATA_MS,
        )
        try:
            await self._consumer.start()
            assigned = [TopicPartition(self._topic, number) for number in range(count)]
            self._consumer.assign(assigned)
            self._first_ends = await self._consumer.end_offsets(assigned)
            await self._seek(assigned)
        except KafkaError as error:
            await self._consumer.stop()
            raise WaitForBroker(f"Kafka at {self._bootstrap_servers}: {error}") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def _seek(self, assigned: list[TopicPartition]) -> None:
        found: Mapping[TopicPartition, int]
        if self._start == "earliest":
            found = await self._consumer.beginning_offsets(assigned)
        elif self._start == "now":
            found = self._first_ends
        else:
            at = await self._consumer.offsets_for_times(dict.fromkeys(assigned, self._start))
            found = {tp: at[tp].offset if at[tp] else self._first_ends[tp] for tp in assigned}
        for tp, offset in found.items():
            self._consumer.seek(tp, offset)

    async def catch_up(self) -> None:
        """Read until the present end of the topic: ``updates`` is whole then.

        What it reads is in ``updates`` and is not handed out as changes any more.
        """
        ends = await self._patiently(self._ends)
        while await self._behind(ends):
            await self._advance(_POLL_S)
        self._undelivered.clear()

    async def lag(self) -> int:
        """Return the records between what was read and the end of the topic as it is now.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        ends = await self._asked(self._ends)
        return sum([max(0, end - await self._consumer.position(tp)) for tp, end in ends.items()])

    async def source_lag(self) -> dict[int, int]:
        """Return, per source partition, the events behind the newest applied offset read of it.

        So many events, at most, may be missing in a vector of that partition, whose number is
        ``update.partition``. Events that change no window (duplicates, late ones, dead letters)
        bring no update: a few at the end may stay. Asks the broker once; empty before the first
        update.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        partitions = [TopicPartition(self._source_topic, number) for number in self._frontier]
        if not partitions:
            return {}
        ends = await self._asked(lambda: self._consumer.end_offsets(partitions))
        return {tp.partition: max(0, end - 1 - self._frontier[tp.partition])
                for tp, end in ends.items()}  # fmt: skip

    async def fetch(self, within_s: float = 1.0) -> list[Change]:
        """Return what is news, as soon as there is some; nothing after ``within_s``."""
        if not self._undelivered:
            await self._advance(within_s)
        changes = list(self._undelivered)
        self._undelivered.clear()
        return changes

    async def __aiter__(self) -> AsyncIterator[Change]:
        """Yield every change that is news, for ever."""
        while True:
            while self._undelivered:
                yield self._undelivered.popleft()
            await self._advance(_POLL_S)

    async def _advance(self, within_s: float) -> None:
        """Take up what the next fetch brings."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=int(within_s * 1000))
        except OffsetOutOfRangeError as error:
            raise FixData(
                f"{self._topic} no longer holds what comes next ({error}): it was deleted or cut "
                "since; begin with a new reader, for what this one holds may be gone"
            ) from error
        for records in fetched.values():
            for record in records:
                self._take(record)
        if isinstance(self._latest, SwitchingUpdates) and self._first_ends:
            await self._settle(self._latest)
        await self._take_new_partitions()

    def _take(self, record: ConsumerRecord) -> None:
        try:
            change = read(record)
        except FixData as error:
            self.poison += 1
            if self.poison <= _POISON_LINES:
                more = " (more will only be counted)" if self.poison == _POISON_LINES else ""
                log.warning("passed over, no update: %s%s", error, more)
            return
        if change.update is not None:
            self._source_topic = change.update.topic
        if change.applied_offset > self._frontier.get(change.partition, NOT_SAID):
            self._frontier[change.partition] = change.applied_offset
        before = self.model_id
        news = self._latest.apply(change)
        if self.model_id != before:
            self._undelivered.clear()  # of the old model
        if news:
            self._undelivered.append(change)

    async def _settle(self, latest: SwitchingUpdates) -> None:
        if await self._behind(self._first_ends):
            return
        self._first_ends = {}
        before = latest.model_id
        latest.settle()
        if latest.model_id != before:
            self._undelivered.clear()

    async def _behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Tell whether anything is to be read before ``ends``.

        By the position, not the last record: compaction leaves gaps at the end, too.
        """
        return any([await self._consumer.position(tp) < end for tp, end in ends.items()])

    async def _take_new_partitions(self) -> None:
        """Read partitions that the topic has got since, from their beginning."""
        assigned = self._consumer.assignment()
        known = self._consumer.partitions_for_topic(self._topic) or set()
        new = {TopicPartition(self._topic, number) for number in known} - assigned
        if not new:
            return
        positions = {tp: await self._consumer.position(tp) for tp in assigned}
        self._consumer.assign([*assigned, *new])
        for tp, offset in (positions | dict.fromkeys(new, 0)).items():
            self._consumer.seek(tp, offset)
        log.warning("%s has %d partitions now, had %d: reading all of them",
                    self._topic, len(known), len(assigned))  # fmt: skip

    async def _ends(self) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(
            self._consumer.assignment()
        )
        return found

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            return await question()
        except KafkaError as error:
            raise WaitForBroker(f"Kafka at {self._bootstrap_servers}: {error!r}") from error

    async def _patiently(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until the broker answers; the caller limits how long."""
        since_s = time.monotonic()
        while True:
            try:
                return await self._asked(question)
            except WaitForBroker as error:
                log.warning("waiting for %s s now: %s", int(time.monotonic() - since_s), error)
                await asyncio.sleep(_RETRY_S)
