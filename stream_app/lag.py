"""How far behind each partition is, and for how long nothing of it has been committed.

A worker that is stuck fetches nothing, and so hears nothing of the end of the log either. So the
end is asked for, every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka.errors import IllegalStateError, KafkaError

from stream_app.partition import Partition

log = logging.getLogger("stream_app.lag")

_LOOK_S = 1.0
_ASK_S = 5.0
"""Between two questions, unless a partition has come whose end is not known."""
_ASK_TIMEOUT_S = 10.0

Ends = Callable[[Iterable[int]], Awaitable[Mapping[int, int]]]


class Lag:
    """The end of the log of each partition held, and since when its commits stand still."""

    def __init__(
        self,
        partitions: Callable[[], Iterable[Partition]],
        committed: Callable[[], Mapping[int, int]],
        ends: Ends,
    ) -> None:
        self._partitions = partitions
        self._committed = committed
        self._ask = ends
        self._ends: dict[int, int] = {}
        self._moved: dict[Partition, tuple[int | None, float]] = {}
        """What was committed of each, and since when it is no more than that with records left."""

    async def watch(self) -> None:
        """Look for ever."""
        asked_s = 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            numbers = {partition.number for partition in self._partitions()}
            now_s = time.monotonic()
            if numbers and (now_s - asked_s >= _ASK_S or not numbers <= self._ends.keys()):
                asked_s = now_s
                await self._hear(numbers)
            self.look(time.monotonic())

    async def _hear(self, numbers: Iterable[int]) -> None:
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                self.heard(await self._ask(numbers))
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.debug("Ends of the events topic not known: %r", error)

    def heard(self, ends: Mapping[int, int]) -> None:
        """Remember where the partitions held end."""
        self._ends = dict(ends)

    def look(self, now_s: float) -> None:
        """Notice which partitions have moved, or have nothing left to do."""
        committed = self._committed()
        before, self._moved = self._moved, {}
        for partition in self._partitions():
            here = committed.get(partition.number)
            was, since_s = before.get(partition, (None, now_s))
            if here != was or not self._has_work(partition, here):
                since_s = now_s
            self._moved[partition] = (here, since_s)

    def _has_work(self, partition: Partition, committed: int | None) -> bool:
        if self._records(partition) or partition.taken:
            return True
        return committed is not None and committed <= partition.last_offset

    def records(self) -> dict[int, int]:
        """Return how many records lie between what is folded of a partition and its end.

        A partition whose end is not known yet is not in it.
        """
        return {
            each.number: self._records(each)
            for each in self._partitions()
            if each.number in self._ends
        }

    def _records(self, partition: Partition) -> int:
        return max(0, self._ends.get(partition.number, 0) - 1 - partition.last_offset)

    def still_s(self, now_s: float) -> dict[int, float]:
        """Return for how long each partition has had something to commit and has not."""
        return {
            partition.number: now_s - since_s for partition, (_, since_s) in self._moved.items()
        }
