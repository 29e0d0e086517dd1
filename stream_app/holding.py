"""The partitions that are ours: how they come, what is done while they stay, and how they go."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence

from state.database import DatabaseDamaged, DatabaseFull
from stream_app import topic_watch, topics
from stream_app.delivery import BatchApp, WindowTable
from stream_app.errors import WaitForBroker
from stream_app.partition import Partition, PartitionRevoked
from stream_app.parts import Parts
from stream_app.producer import DeliveryFailed
from stream_app.replaying.bounds import Bounds
from stream_app.settings import Settings

log = logging.getLogger("stream_app.worker")

_OWN_RETRY_S = 1.0
_TRIES_TO_OWN = 3
_FROZEN_SESSIONS = 3
"""How many session timeouts back a former owner's late update is looked for."""
_IDLE_LOOK_S = 5.0
"""Under the changelog's compaction lag of six session timeouts: compaction comes after us."""


class Holding:
    """Takes partitions up after their windows are restored, and lets them go again."""

    parts: Parts
    """Set once they are joined, before the app hands out the first partition."""

    def __init__(
        self,
        settings: Settings,
        bounds: Bounds | None,
        app: BatchApp,
        table: WindowTable,
        fail: Callable[[BaseException], None],
    ) -> None:
        """``fail`` is told of what no retry mends."""
        self._settings = settings
        self._bounds = bounds
        self._app = app
        self._table = table
        self._fail = fail
        self.partitions: dict[int, Partition] = {}
        self._arrived: set[str] = set()
        self._arrival = asyncio.Event()

    def ours(self) -> list[Partition]:
        """Return the partitions that are ours: while stopping, Faust closes their tables."""
        return [partition for partition in self.partitions.values() if not partition.revoked]

    async def begin(self) -> list[int]:
        """Begin with the partitions whose windows Faust has just restored.

        Returns their numbers; some may have left us again before all is done.
        """
        self.drop()
        actives = self._app.assignor.assigned_actives()
        topic = self._settings.events_topic
        numbers = sorted(tp.partition for tp in actives if tp.topic == topic)
        for number in numbers:
            partition = Partition(number, self._table.partition(number))
            if self._bounds is not None:
                partition.warming_up = self._bounds.is_warm_up(number, 0)
            partition.write_again(self._table.take_refused(number))
            self.partitions[number] = partition
        await self._own_updates(list(self.partitions.values()))
        self.parts.rounds.want()
        return numbers

    async def _own_updates(self, partitions: Sequence[Partition]) -> None:
        """Outdo what a former owner, perhaps our former self, wrote of late to our updates.

        Before the first event, for what is read must not be older than what we publish.
        """
        settings = self._settings
        within_ms = int(_FROZEN_SESSIONS * settings.session_timeout_s * 1000)
        for _ in range(_TRIES_TO_OWN):
            try:
                folded = await topics.committed(settings)
                for partition in partitions:
                    committed = folded.get(partition.number, 0)
                    partition.last_offset = max(partition.last_offset, committed - 1)
                    if self._bounds and not self._bounds.is_warm_up(partition.number, committed):
                        partition.warming_up = False
                await topic_watch.must_belong_together(
                    settings, [partition.number for partition in partitions]
                )
                await self.parts.rounds.own(partitions, within_ms)
            except PartitionRevoked as error:
                log.info("%s", error)
            except (DeliveryFailed, WaitForBroker) as error:
                log.warning("Late updates of former owners not looked for yet: %s", error)
                await asyncio.sleep(_OWN_RETRY_S)
                continue
            return
        log.error("Late updates of former owners, if any, stand until their users' next events")

    async def look_after_idle(self) -> None:
        """Busy partitions notice strange records by their acknowledgements; idle ones must look."""
        while True:
            await asyncio.sleep(_IDLE_LOOK_S)
            if self.partitions:  # also where there is nothing to write, and nobody would ask
                self.parts.lease.tell()
            idle = [each for each in self.ours() if each.is_idle()]
            try:
                await self.parts.changelog.look_after(idle)
                await self.parts.rounds.look_after(idle)
            except PartitionRevoked as error:
                log.info("%s", error)
            except DeliveryFailed as error:
                log.warning("Idle partitions not looked after: %s", error)

    async def give_up(self, *, store: bool) -> None:
        """Checkpoint what is ours if time allows; drop the hot windows in any case.

        Kept over a rebalance, hot windows lost events when a frozen worker came back.
        """
        if store and self.parts.lease.is_held():
            await self.last_checkpoint(self._settings.session_timeout_s / 2)
        self.drop()
        gc.collect()

    def drop(self) -> None:
        """Let all partitions go as they are."""
        for partition in self.partitions.values():
            partition.revoke()
            self.parts.changelog.release(partition)
            self.parts.updates_log.release(partition)
        self.partitions.clear()

    async def last_checkpoint(self, timeout_s: float) -> None:
        """Store and commit what there is, as far as the time suffices."""
        partitions = list(self.partitions.values())
        self.parts.rounds.want()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*map(self.parts.checkpoints.attempt, partitions))
                await self._app.consumer.commit()
        except TimeoutError:
            log.warning(
                "no last checkpoint within %.1f s: what is not stored is delivered again",
                timeout_s,
            )
        except (DatabaseDamaged, DatabaseFull) as error:
            self._fail(error)

    def items_arrived(self, item_ids: set[str]) -> None:
        """Say that the texts of these items, looked up before in vain, are known now."""
        if item_ids:
            self._arrived |= item_ids
            self._arrival.set()

    async def touch_holders(self) -> None:
        """Publish anew the users whose windows held items before their texts were known, for ever.

        One look at all windows is for all that arrived since the last one. Users whose windows
        are not in memory get the text with their next event.
        """
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            item_ids, self._arrived = self._arrived, set()
            await self._touch_holders(item_ids)

    async def _touch_holders(self, item_ids: set[str]) -> None:
        for partition in list(self.partitions.values()):
            for count, (key, window) in enumerate(list(partition.hot.items())):
                if count % 1000 == 999:
                    await asyncio.sleep(0)
                if window is None or item_ids.isdisjoint(window.item_ids):
                    continue
                current = partition.hot.get(key)  # it may have been forgotten meanwhile
                if current is not None and key not in partition.expiring:
                    partition.touched.setdefault(key, current)
            partition.tick += 1
        self.parts.rounds.want()
