"""A topic followed from the outside: from a start on, over broker restarts and new partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import Literal, Self, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.errors import FixData, WaitForBroker
from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import unanswered
from stream_app.topics import partition_count

log = logging.getLogger(__name__)
T = TypeVar("T")

Start = Literal["earliest", "now"] | int
"""Where to begin: at the beginning of the topic, at its end, or at a time in ms since the epoch."""

Ends = Mapping[TopicPartition, int]

_RETRY_S = 1.0
_FETCH_BYTES = 4 << 20
"""Of one partition: a thousand updates of 384 dimensions as JSON, so that a first reading is not
kept by round trips. A fetch of 16 partitions may take 64 MiB."""
_FETCH_RECORDS = 2_000
"""Handed on at once: some 30 ms of decoding, in which nobody else runs in the event loop."""
_METADATA_MS = 30_000
"""How long more partitions may go unnoticed."""


class FollowedTopic:
    """All partitions of a topic, read by a consumer that belongs to no group.

    A broker that is away is waited for. Partitions that the topic gets later are read, too, from
    their beginning.
    """

    def __init__(self, bootstrap_servers: Brokers, topic: str, start: Start = "earliest") -> None:
        self.name = topic
        self._bootstrap_servers = bootstrap_servers
        self._start = start

    async def __aenter__(self) -> Self:
        """Connect, and go to the start.

        Raises:
            WaitForBroker: no broker answers.
            FixSettings: there is no such topic.
        """
        # Asked first: a consumer of a topic that does not exist waits for it most of a minute.
        count = await partition_count(self._bootstrap_servers, self.name)
        self._consumer = AIOKafkaConsumer(
            **client_options(self._bootstrap_servers),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            metadata_max_age_ms=_METADATA_MS,
        )
        try:
            await self._consumer.start()
            self._consumer.assign([TopicPartition(self.name, number) for number in range(count)])
            for tp, offset in (await self._starts()).items():
                self._consumer.seek(tp, offset)
        except KafkaError as error:
            await self._consumer.stop()
            raise await unanswered(error, self._bootstrap_servers) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def _starts(self) -> Ends:
        assigned = self._consumer.assignment()
        found: Ends
        if self._start == "earliest":
            found = await self._consumer.beginning_offsets(assigned)
            return found
        ends: Ends = await self._consumer.end_offsets(assigned)
        if self._start == "now":
            return ends
        at = await self._consumer.offsets_for_times(dict.fromkeys(assigned, self._start))
        return {tp: at[tp].offset if at[tp] else end for tp, end in ends.items()}

    async def records(self, within_s: float) -> list[ConsumerRecord]:
        """Return the next records, as soon as there are some; none after ``within_s``.

        Raises:
            FixData: the topic no longer holds what comes next.
            KafkaRefuses: an ACL for it is missing.
        """
        await self._take_new_partitions()
        # Fetches that have come ahead are handed on without waiting: let others run, too. Here, for
        # who is cancelled behind the fetch has lost its records.
        await asyncio.sleep(0)
        try:
            fetched = await self._consumer.getmany(
                timeout_ms=int(within_s * 1000), max_records=_FETCH_RECORDS
            )
        except OffsetOutOfRangeError as error:
            raise FixData(
                f"{self.name} no longer holds what comes next ({error}): it was deleted or cut "
                "since; begin with a new reader, for what this one holds may be gone"
            ) from error
        except TopicAuthorizationFailedError as error:
            raise await unanswered(error, self._bootstrap_servers) from error
        return [record for records in fetched.values() for record in records]

    async def restart(self) -> None:
        """Go back to the beginning."""
        await self._consumer.seek_to_beginning()

    async def behind(self, ends: Ends) -> bool:
        """Tell whether anything is to be read before ``ends``.

        By the position, not the last record: compaction leaves gaps at the end, too.
        """
        return any([await self._consumer.position(tp) < end for tp, end in ends.items()])

    async def lag(self) -> int:
        """Return the records between what was read and the end as it is now.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        ends = await self.ends()
        return sum([max(0, end - await self._consumer.position(tp)) for tp, end in ends.items()])

    async def ends(self) -> Ends:
        """Return the end of each partition as it is now.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        return await self._ends(self._consumer.assignment())

    async def ends_of(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return the ends of some partitions of another topic.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        ends = await self._ends([TopicPartition(topic, number) for number in partitions])
        return {tp.partition: end for tp, end in ends.items()}

    async def _ends(self, partitions: Collection[TopicPartition]) -> Ends:
        try:
            found: Ends = await self._consumer.end_offsets(partitions)
            return found
        except KafkaError as error:
            raise await unanswered(error, self._bootstrap_servers) from error

    async def _take_new_partitions(self) -> None:
        assigned = self._consumer.assignment()
        known = self._consumer.partitions_for_topic(self.name) or set()
        new = {TopicPartition(self.name, number) for number in known} - assigned
        if not new:
            return
        positions = {tp: await self._consumer.position(tp) for tp in assigned}
        self._consumer.assign([*assigned, *new])
        for tp, offset in (positions | dict.fromkeys(new, 0)).items():
            self._consumer.seek(tp, offset)
        log.warning("%s has %d partitions now, had %d: reading all of them",
                    self.name, len(known), len(assigned))  # fmt: skip


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the broker answers; the caller limits how long."""
    since_s = time.monotonic()
    while True:
        try:
            return await ask()
        except WaitForBroker as error:
            log.warning("waiting for %d s now: %s", time.monotonic() - since_s, error)
            await asyncio.sleep(_RETRY_S)
