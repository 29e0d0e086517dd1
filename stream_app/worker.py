"""The worker: every part made, joined and started in order, and stopped in the reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, cast

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from encoders import EncoderError, model_bundle
from encoders.interface import EncoderInfo
from state.database import DatabaseDamaged, DatabaseFull
from stream_app import topic_watch, topics
from stream_app.burials import Burials
from stream_app.catalogue import Catalogue
from stream_app.changelog import Changelog
from stream_app.checkpoint import Checkpoints
from stream_app.datadir import Datadir
from stream_app.dead_letters import DeadLetter
from stream_app.delivery import (
    APPLIED_OFFSET_HEADER,
    BatchApp,
    PassThrough,
    RecordBatch,
    WindowTable,
    faust_credentials,
    install_transport,
)
from stream_app.encoder_process import EncoderProcess
from stream_app.encoding import WindowEncoder
from stream_app.errors import (
    FixSettings,
    RestartWorker,
    WaitForBroker,
)
from stream_app.failures import is_expected
from stream_app.intake import Intake
from stream_app.item_vectors import ItemVectors
from stream_app.lease import Lease
from stream_app.owned_log import OwnedLog
from stream_app.partition import Partition, PartitionRevoked, Taken
from stream_app.producer import BatchProducer, DeliveryFailed
from stream_app.replaying.bounds import Bounds
from stream_app.rounds import Rounds
from stream_app.settings import Settings
from stream_app.status import Counts, LoopLag, StatusFile
from stream_app.sweep import Sweep
from stream_app.training_notes import window_misfits
from stream_app.updates import UpdateEncoder

log = logging.getLogger("stream_app.worker")

_BROKER_RETRY_S = 2.0
_BUFFERED_BATCHES = 16
"""Fetches of a partition waiting for the agent; Faust's default of 4,096 counts single events."""
_DEAD_LETTER_RETRY_S = 1.0
_TRIES_TO_OWN = 3
_FROZEN_SESSIONS = 3
"""How many session timeouts back a former owner's late update is looked for."""
_IDLE_LOOK_S = 5.0
"""Under the changelog's compaction lag of six session timeouts: compaction comes after us."""
_ENDED = frozenset({"stopped", "failed"})


class Worker:
    """One worker: its Faust app in :attr:`app`, everything around it in here."""

    def __init__(
        self,
        settings: Settings,
        bounds: Bounds | None = None,
        on_model: Callable[[EncoderInfo], Awaitable[None]] | None = None,
    ) -> None:
        """``bounds``: fold that part of the log and no more. ``on_model``: may refuse the model."""
        self.settings = settings
        self._bounds = bounds
        self._on_model = on_model
        self.counts = Counts()
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self.state = "starting"
        self._stopping = False
        self._partitions: dict[int, Partition] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_lag = LoopLag()
        self._datadir = Datadir(settings.datadir)
        self._status = StatusFile(settings.datadir / "status.json", self._describe)
        self._producer = BatchProducer(settings.kafka, settings.delivery_timeout_s)
        self._burials = Burials(settings.dead_letters_topic, self._producer, self.counts)
        self._encoder_process = EncoderProcess(
            settings.encoder_config(),
            start_timeout_s=settings.encoder_start_timeout_s,
            request_timeout_s=settings.encode_timeout_s,
        )
        self._intake = Intake(settings.event_limits(), settings.window_policy(), self.counts)
        self.app = self._faust_app()

    # -- the Faust app

    def _faust_app(self) -> BatchApp:
        settings = self.settings
        app = BatchApp(
            settings.app_id,
            broker=[f"kafka://{broker}" for broker in settings.bootstrap_servers.split(",")],
            broker_credentials=faust_credentials(settings.kafka),
            datadir=settings.datadir / "faust",
            topic_partitions=settings.partitions,
            topic_replication_factor=settings.replication_factor,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            stream_buffer_maxsize=_BUFFERED_BATCHES,
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            broker_max_poll_records=settings.fetch_max_records,
            broker_commit_interval=0.5,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.heartbeat_interval_s,
            broker_request_timeout=max(90.0, settings.session_timeout_s),
            consumer_auto_offset_reset="earliest",
            table_standby_replicas=settings.standby_replicas,
        )
        app.owner = self
        install_transport(
            app,
            settings.events_topic,
            settings.micro_batch_linger_ms,
            settings.isolation_level,
            self._bounds.ends if self._bounds else {},
        )
        self._table = WindowTable(
            app,
            name="windows",
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            options={"block_cache_bytes": settings.rocksdb_block_cache_bytes},
            on_recover=self._on_recovered,
        )
        app.tables.add(self._table)
        source = app.topic(
            settings.events_topic, schema=PassThrough(), partitions=settings.partitions
        )
        app.agent(source, name="interest_stream.fold")(self._agent)
        app.on_partitions_revoked.connect(cast(Any, self._on_revoked))
        return app

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._take(event)
            except PartitionRevoked as error:
                log.info("%s", error)
            except Exception as error:  # noqa: BLE001 - no event is acknowledged from here on
                self._fail(error)

    async def _take(self, event: Any) -> None:
        """One RecordBatch: decode, fold, and let the rounds know. Acknowledged at a checkpoint."""
        message = event.message
        if self._stopping or self.failure is not None:
            return  # never acknowledged, so delivered again to whoever comes next
        if self.app.rebalancing or message.generation_id != self.app.consumer_generation_id:
            return  # a rebalance ends by seeking back to the committed offsets
        batch: RecordBatch = message.value
        partition = self._partitions.get(message.partition)
        if partition is None or batch.sequence != partition.next_sequence:
            raise RestartWorker(
                f"a fetch of partition {message.partition} got lost inside Faust: expected batch "
                f"{partition.next_sequence if partition else 'none'}, got {batch.sequence}; "
                "a restart resumes from the last commit"
            )
        partition.next_sequence += 1
        partition.must_go_on(batch.records, self.settings.events_topic)
        await self._room(partition)
        letters = await self._fold(partition, batch)
        partition.last_offset = max(partition.last_offset, batch.next_offset - 1)
        partition.tick += 1
        partition.taken.append(Taken(partition.tick, event))
        if letters:
            self._burials.bury(partition, letters)
        if partition.forgotten_texts:
            texts, partition.forgotten_texts = partition.forgotten_texts, []
            partition.deliver(self._encoder.forget(texts))
        self._rounds.want()
        partition.cool(self.settings.hot_windows_max // len(self._partitions))

    async def _fold(self, partition: Partition, batch: RecordBatch) -> list[DeadLetter]:
        """Decode and fold what is wanted; return the dead letters that are to be published."""
        if self._bounds is None:
            return await self._intake.take(partition, batch.records)
        wanted = self._bounds.of_users(batch.records)
        self.counts.skipped += len(batch.records) - len(wanted)
        warm, rest = self._bounds.warm_up(partition.number, wanted)
        await self._intake.take(partition, warm)
        if not self._bounds.is_warm_up(partition.number, batch.next_offset):
            partition.warmed_up()
        return await self._intake.take(partition, rest)

    async def _room(self, partition: Partition) -> None:
        """Wait, checkpointing, while dirty users or RecordBatches in flight are at their bound."""
        settings = self.settings
        while True:
            dirty = sum(len(each.dirty) for each in self._partitions.values())
            if len(partition.taken) < settings.record_batches_max and dirty < (
                settings.dirty_users_max
            ):
                return
            fullest = max(self._partitions.values(), key=lambda each: len(each.dirty))
            crowded = partition if len(partition.taken) >= settings.record_batches_max else fullest
            if not await self._checkpoints.attempt(crowded):
                partition.must_be_ours()
                await asyncio.sleep(0.1)

    # -- rebalancing

    async def _on_recovered(self) -> None:
        """Begin with the partitions whose windows Faust has just restored."""
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - Faust would take it for a crash of its own
            self._fail(error)

    async def _begin(self) -> None:
        self._drop_partitions()
        actives = self.app.assignor.assigned_actives()
        topic = self.settings.events_topic
        for number in sorted(tp.partition for tp in actives if tp.topic == topic):
            partition = Partition(number, self._table.partition(number))
            if self._bounds is not None:
                partition.warming_up = self._bounds.is_warm_up(number, 0)
            partition.write_again(self._table.take_refused(number))
            self._partitions[number] = partition
        await self._own_updates(list(self._partitions.values()))
        self._rounds.want()
        self.state = "running"
        log.info("Partitions assigned and restored: %s", sorted(self._partitions) or "none")
        self._item_vectors.want()

    async def _own_updates(self, partitions: Sequence[Partition]) -> None:
        """Outdo what a former owner, perhaps our former self, wrote of late to our updates.

        Before the first event, for what is read must not be older than what we publish.
        """
        settings = self.settings
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
                await self._rounds.own(partitions, within_ms)
            except PartitionRevoked as error:
                log.info("%s", error)
            except (DeliveryFailed, WaitForBroker) as error:
                log.warning("Late updates of former owners not looked for yet: %s", error)
                await asyncio.sleep(_DEAD_LETTER_RETRY_S)
                continue
            return
        log.error("Late updates of former owners, if any, stand until their users' next events")

    async def _look_after_idle(self) -> None:
        """Busy partitions notice strange records by their acknowledgements; idle ones must look."""
        while True:
            await asyncio.sleep(_IDLE_LOOK_S)
            if self._partitions:  # also where there is nothing to write, and nobody would ask
                self._lease.tell()
            idle = [each for each in self._ours() if each.is_idle()]
            try:
                await self._changelog.look_after(idle)
                await self._rounds.look_after(idle)
            except PartitionRevoked as error:
                log.info("%s", error)
            except DeliveryFailed as error:
                log.warning("Idle partitions not looked after: %s", error)

    async def _on_revoked(self, app: Any, *_: Any, **__: Any) -> None:
        """Checkpoint what is ours if time allows; drop the hot windows in any case.

        Kept over a rebalance, hot windows lost events when a frozen worker came back.
        """
        self.state = "rebalancing"
        if self._lease.is_held() and self.failure is None:
            await self._last_checkpoint(self.settings.session_timeout_s / 2)
        self._drop_partitions()
        gc.collect()

    def _drop_partitions(self) -> None:
        for partition in self._partitions.values():
            partition.revoke()
            self._changelog.release(partition)
            self._updates_log.release(partition)
        self._partitions.clear()

    async def _last_checkpoint(self, timeout_s: float) -> None:
        partitions = list(self._partitions.values())
        self._rounds.want()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*map(self._checkpoints.attempt, partitions))
                await self.app.consumer.commit()
        except TimeoutError:
            log.warning(
                "no last checkpoint within %.1f s: what is not stored is delivered again",
                timeout_s,
            )
        except (DatabaseDamaged, DatabaseFull) as error:
            self._fail(error)

    # -- around the app

    async def before_start(self) -> None:
        """Check everything that can be wrong, then start what the app stands on.

        Raises:
            FixSettings: one line that says what to change.
            WaitForBroker: no broker within ``broker_wait_s``.
        """
        settings = self.settings
        try:  # again in the encoder process, but here no broker need answer first
            model_bundle.opened(settings.encoder_config())
        except EncoderError as error:
            raise FixSettings(str(error)) from None
        self._datadir.hold()
        await self._wait_for_broker()
        info = await self._encoder_process.start()
        if self._on_model is not None:
            await self._on_model(info)
        self._datadir.check(info, settings.app_id, settings.updates_topic)
        self._join(info)
        await self._producer.start(
            [
                settings.updates_topic,
                settings.changelog_topic,
                settings.dead_letters_topic,
                settings.item_vectors_topic,
            ]
        )
        await self._catalogue.start()
        for coroutine in (
            self._loop_lag.watch(),
            self._status.keep_fresh(),
            self._catalogue.follow(),
            self._rounds.run(),
            self._checkpoints.run(),
            self._look_after_idle(),
            self._sweep.run(),
            topic_watch.watch(settings),
        ):
            self._spawn(coroutine)
        if settings.publish_item_vectors:
            self._spawn(self._item_vectors.run())
        log.info(
            "model %s, %s dimensions, %s on %s",
            info.model_id, info.dimensions, info.backend, info.device,
        )  # fmt: skip
        for misfit in window_misfits(info, settings.window_policy()):
            log.warning(misfit)
        if settings.publish_interests and not info.interests:
            log.warning(
                "publish_interests is set, but model %s has one vector per user: updates carry no "
                "interests; `interest-stream train --interests K` makes a model that has K",
                info.model_id,
            )

    def _join(self, info: EncoderInfo) -> None:
        """Make the parts that need to know the model, and join them."""
        settings, counts = self.settings, self.counts
        self._catalogue = Catalogue(
            settings.datadir / "catalogue",
            settings.items_topic,
            settings.kafka,
            counts,
            max_text_chars=settings.max_text_chars,
            isolation_level=settings.isolation_level,
            changed=self._on_items_changed,
            bury=self._burials.bury_alone,
        )
        self._encoder = WindowEncoder(
            self._encoder_process,
            self._catalogue,
            counts,
            rows=settings.text_cache_rows,
            with_granularities=settings.publish_granularities,
            with_several=settings.publish_interests,
            bury=self._burials.bury_alone,
        )
        self._lease = Lease(
            lambda: self.app.consumer.lease_renewed_at,  # type: ignore[attr-defined]
            settings.session_timeout_s,
        )
        self._updates_log = OwnedLog(
            settings.updates_topic, settings.kafka, counts, _update_applied
        )
        self._rounds = Rounds(
            self._ours,
            self._encoder,
            UpdateEncoder(
                settings.update_format,
                info.model_id,
                settings.events_topic,
                info.granularities,
                info.weights,
                info.vectors,
            ),
            self._producer,
            self._lease,
            counts,
            self._updates_log,
            source_topic=settings.events_topic,
            max_users=settings.micro_batch_max_users,
            linger_ms=settings.micro_batch_linger_ms,
        )
        self._rounds.bury = self._burials.bury
        self._changelog = Changelog(
            settings.changelog_topic, self._producer, counts, settings.kafka
        )
        self._checkpoints = Checkpoints(
            self._ours,
            self._changelog,
            self._lease,
            counts,
            interval_ms=settings.checkpoint_interval_ms,
        )
        self._sweep = Sweep(
            self._ours,
            self._rounds.want,
            self._checkpoints,
            lambda: topics.committed(settings),
            counts,
            sweep_ms=settings.window_policy().sweep_ms,
        )
        self._item_vectors = ItemVectors(
            self._catalogue,
            self._encoder,
            self._producer,
            self._ours,
            counts,
            topic=settings.item_vectors_topic,
            model_id=info.model_id,
            source_partitions=settings.partitions,
        )

    async def _wait_for_broker(self) -> None:
        deadline = time.monotonic() + self.settings.broker_wait_s
        while True:
            try:
                await topics.check(self.settings)
            except WaitForBroker as error:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise
                log.warning("%s; trying again for %.0f s", error, left_s)
                await asyncio.sleep(min(_BROKER_RETRY_S, left_s))
            else:
                return

    async def before_stop(self) -> None:
        """Finish what is in flight, store and commit it."""
        self._stopping = True
        self.state = "stopping"
        if self.failure is None and self._partitions:
            await self._last_checkpoint(self.settings.stop_timeout_s * 0.6)
        self._drop_partitions()  # their databases close now: who looks after idle ones finds none

    async def after_stop(self) -> None:
        """Release the rest: tasks, producer, databases, encoder process, datadir."""
        if self.state in _ENDED:
            return
        self.state = "failed" if self.failure is not None else "stopped"
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._burials.stop()
        await self._producer.stop()
        if hasattr(self, "_catalogue"):
            await self._catalogue.stop()
        await self._encoder_process.stop()
        if self._datadir.held:
            self._status.try_to_write()
        self._datadir.release()

    def on_refused(self, error: Exception) -> None:
        """Kafka does not let us read, or be in the group: no retry mends that."""
        self._fail(error)

    def held(self) -> Mapping[int, Partition]:
        """Return the partitions that are ours at this moment."""
        return dict(self._partitions)

    def items_settled(self) -> bool:
        """Tell whether there is no item vector left to publish."""
        return not self.settings.publish_item_vectors or self._item_vectors.settled

    # -- small parts

    def _ours(self) -> Iterable[Partition]:
        """Return the partitions that are ours: while stopping, Faust closes their tables."""
        return [partition for partition in self._partitions.values() if not partition.revoked]

    def _on_items_changed(self, item_ids: Sequence[str]) -> None:
        if not hasattr(self, "_encoder"):
            return
        arrived = self._encoder.items_changed(item_ids)
        self._item_vectors.want()
        if arrived:
            self._spawn(self._touch_holders(arrived))

    async def _touch_holders(self, item_ids: set[str]) -> None:
        """Publish anew the users whose windows held these items before their texts were known.

        Users whose windows are not in memory get the text with their next event.
        """
        for partition in list(self._partitions.values()):
            for count, (key, window) in enumerate(list(partition.hot.items())):
                if count % 1000 == 999:
                    await asyncio.sleep(0)
                if window is None or item_ids.isdisjoint(window.item_ids):
                    continue
                current = partition.hot.get(key)  # it may have been forgotten meanwhile
                if current is not None and key not in partition.expiring:
                    partition.touched.setdefault(key, current)
            partition.tick += 1
        self._rounds.want()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Stop everything: nothing is lost, for what is not committed is delivered again."""
        if self.failure is not None:
            return
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.failure = error
        expected = is_expected(error, self.settings)
        log.error("The worker cannot go on: %s", error, exc_info=None if expected else error)
        self.failed.set()

    def _describe(self) -> dict[str, Any]:
        info = self._encoder_process.info
        self.counts.encoder_restarts = max(0, self._encoder_process.epoch - 1)
        partitions = self._partitions.values()
        return {
            "state": self.state,
            "partitions": sorted(self._partitions),
            "model_id": info.model_id if info else None,
            "dimensions": info.dimensions if info else None,
            "encoder_backend": info.backend if info else None,
            "encoder_pid": self._encoder_process.pid,
            "counts": self.counts,
            "rocksdb_memory_bytes": sum(
                each.table.memory_bytes() for each in partitions if not each.revoked
            ),
            "users_hot": sum(len(partition.hot) for partition in partitions),
            "dirty": sum(len(partition.dirty) for partition in partitions),
            "in_flight": sum(len(partition.taken) for partition in partitions),
            "backlog": self._backlog(),
            "items_known": self._catalogue.known if hasattr(self, "_catalogue") else 0,
            "loop_lag_ms_p99": self._loop_lag.percentile_ms(0.99),
            "loop_lag_ms_max": self._loop_lag.max_ms,
        }

    def _backlog(self) -> int:
        """Return how many source records lie between what is folded and the ends of the log."""
        behind = 0
        for partition in self._partitions.values():
            end = self.app.monitor.tp_end_offsets.get(
                TP(self.settings.events_topic, partition.number)
            )
            if end is not None:
                behind += max(0, end - 1 - partition.last_offset)
        return behind


def _update_applied(_: Partition, record: ConsumerRecord) -> int:
    return int(dict(record.headers).get(APPLIED_OFFSET_HEADER, -1))
