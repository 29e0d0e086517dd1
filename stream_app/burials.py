"""Dead letters on their way to their topic: sent until they are acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stream_app.dead_letters import DeadLetter
from stream_app.meters import Meters
from stream_app.partition import Partition
from stream_app.producer import BatchProducer, DeliveryFailed
from stream_app.settings import Settings
from stream_app.status import Counts

log = logging.getLogger("stream_app.burials")

_RETRY_S = 1.0
_LAST = 20
_MOST_DETAIL_CHARS = 300


class Buried(NamedTuple):
    """What is remembered of a dead letter: not what was in it."""

    time_ms: int
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int


class Burials:
    """Sends dead letters, and does not give up."""

    def __init__(
        self,
        settings: Settings,
        producer: BatchProducer,
        counts: Counts,
        meters: Meters,
        fail: Callable[[BaseException], None],
    ) -> None:
        """``fail`` is told of what no retry mends and nobody waits for."""
        self._topic = settings.dead_letters_topic
        self._tell_whose = settings.log_personal_data
        self._pseudonyms = settings.pseudonyms()
        self._producer = producer
        self._counts = counts
        self._meters = meters
        self._fail = fail
        self._alone: set[asyncio.Task[None]] = set()
        self.last: deque[Buried] = deque(maxlen=_LAST)
        """Acknowledged ones, the newest last."""

    def bury(self, partition: Partition, letters: Sequence[DeadLetter]) -> None:
        """Send dead letters of a partition; its next checkpoint waits for them."""
        partition.deliver(self._deliver(letters, partition))

    async def bury_items(self, letters: Sequence[DeadLetter]) -> None:
        """Send what is no item, and return once it is acknowledged.

        Raises:
            KafkaRefuses: an ACL is missing; trying again would not help.
        """
        await self._deliver(letters, None)

    def bury_alone(self, letter: DeadLetter) -> None:
        """Send a dead letter that belongs to no source partition and no record: a poison text."""
        task = asyncio.create_task(self._deliver([letter], None))
        self._alone.add(task)
        task.add_done_callback(self._on_alone_done)

    def _on_alone_done(self, task: asyncio.Task[None]) -> None:
        self._alone.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def stop(self) -> None:
        """Give up what is still on its way and belongs to no partition."""
        alone = list(self._alone)
        for task in alone:
            task.cancel()
        await asyncio.gather(*alone, return_exceptions=True)

    def _remember(self, letters: Sequence[DeadLetter]) -> None:
        now_ms = int(time.time() * 1000)
        for letter in letters[-_LAST:]:
            detail = letter.detail[:_MOST_DETAIL_CHARS]
            place = letter.topic, letter.partition, letter.offset
            self.last.append(Buried(now_ms, letter.reason, detail, *place))

    async def _deliver(self, letters: Sequence[DeadLetter], partition: Partition | None) -> None:
        count = await self._producer.partitions(self._topic)
        number = max(0, letters[0].partition) % count
        records = [letter.record() for letter in letters]
        while partition is None or not partition.revoked:
            try:
                await self._producer.send(self._topic, number, records)
            except DeliveryFailed as error:
                self._counts.delivery_retries += 1
                log.warning("Dead letters not delivered, trying again: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._meters.buried(letter.reason for letter in letters)
                self._remember(letters)
                self._tell(letters)
                return

    def _name(self, key: bytes | None) -> bytes | None:
        return key if key is None or self._pseudonyms is None else self._pseudonyms.of_key(key)

    def _tell(self, letters: Sequence[DeadLetter]) -> None:
        if not log.isEnabledFor(logging.DEBUG):
            return
        for each in letters:
            whose = f": key {self._name(each.key)!r}, {each.detail}" if self._tell_whose else ""
            where = f"{each.topic}/{each.partition}@{each.offset}" if each.topic else "a text"
            log.debug("Dead letter, %s: %s%s", where, each.reason, whose)
