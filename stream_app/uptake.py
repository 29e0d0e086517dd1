"""From Faust's agent to the fold: RecordBatches taken up in order, within the bounds of memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from stream_app import topic_watch
from stream_app.burials import Burials
from stream_app.dead_letters import DeadLetter
from stream_app.delivery import BatchApp, RecordBatch
from stream_app.errors import RestartWorker
from stream_app.holding import Holding
from stream_app.intake import Intake
from stream_app.meters import Meters
from stream_app.partition import Partition, Taken
from stream_app.replaying.bounds import Bounds
from stream_app.settings import Settings
from stream_app.status import Counts


class Uptake:
    """Takes up one RecordBatch after the other; checkpoints acknowledge them."""

    def __init__(
        self,
        settings: Settings,
        bounds: Bounds | None,
        app: BatchApp,
        holding: Holding,
        burials: Burials,
        counts: Counts,
        meters: Meters,
    ) -> None:
        self._settings = settings
        self._bounds = bounds
        self._app = app
        self._holding = holding
        self._burials = burials
        self._counts = counts
        self._meters = meters
        self._intake = Intake(settings.event_limits(), settings.window_policy(), counts, meters)

    async def take(self, event: Any) -> None:
        """One RecordBatch: decode, fold, and let the rounds know. Acknowledged at a checkpoint.

        Raises:
            RestartWorker: a RecordBatch got lost on the way.
            FixSettings: offsets begin anew, for the topic is another one.
            DeliveryFailed: whether it is could not be found out.
            PartitionRevoked: the partition left us meanwhile.
        """
        message = event.message
        if self._app.rebalancing or message.generation_id != self._app.consumer_generation_id:
            return  # a rebalance ends by seeking back to the committed offsets
        batch: RecordBatch = message.value
        partitions, parts = self._holding.partitions, self._holding.parts
        partition = partitions.get(message.partition)
        if partition is None or batch.sequence != partition.next_sequence:
            raise RestartWorker(
                f"a fetch of partition {message.partition} got lost inside Faust: expected batch "
                f"{partition.next_sequence if partition else 'none'}, got {batch.sequence}; "
                "a restart resumes from the last commit"
            )
        partition.next_sequence += 1
        if not partition.goes_on(batch.records):
            # Sought back by a rebalance that came late, or another log, which must not pass for it.
            await topic_watch.must_belong_together(self._settings, [partition.number])
        await self._room(partition)
        self._meters.record_batch_records.observe(len(batch.records))
        letters = await self._fold(partition, batch)
        partition.last_offset = max(partition.last_offset, batch.next_offset - 1)
        partition.tick += 1
        partition.taken.append(Taken(partition.tick, event))
        if letters:
            self._burials.bury(partition, letters)
        if partition.forgotten_texts:
            texts, partition.forgotten_texts = partition.forgotten_texts, []
            partition.drop_texts(partial(parts.encoder.forget, texts))
        parts.rounds.want()
        partition.cool(self._settings.hot_windows_max // len(partitions))

    async def _fold(self, partition: Partition, batch: RecordBatch) -> list[DeadLetter]:
        """Decode and fold what is wanted; return the dead letters that are to be published."""
        if self._bounds is None:
            return await self._intake.take(partition, batch.records, batch.drained_s)
        wanted = self._bounds.of_users(batch.records)
        self._counts.skipped += len(batch.records) - len(wanted)
        warm, rest = self._bounds.warm_up(partition.number, wanted)
        await self._intake.take(partition, warm, batch.drained_s)
        if not self._bounds.is_warm_up(partition.number, batch.next_offset):
            partition.warmed_up()
        return await self._intake.take(partition, rest, batch.drained_s)

    async def _room(self, partition: Partition) -> None:
        """Wait, checkpointing, while dirty users or RecordBatches in flight are at their bound."""
        settings, partitions = self._settings, self._holding.partitions
        while True:
            dirty = sum(len(each.dirty) for each in partitions.values())
            if len(partition.taken) < settings.record_batches_max and dirty < (
                settings.dirty_users_max
            ):
                return
            fullest = max(partitions.values(), key=lambda each: len(each.dirty))
            crowded = partition if len(partition.taken) >= settings.record_batches_max else fullest
            if not await self._holding.parts.checkpoints.attempt(crowded):
                partition.must_be_ours()
                await asyncio.sleep(0.1)
