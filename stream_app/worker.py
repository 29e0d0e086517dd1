"""The worker: every part made, joined and started in order, and stopped in the reverse."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from faust.types import TP

from encoders import EncoderError, model_bundle
from encoders.interface import EncoderInfo
from stream_app import start_block, topic_watch, topics, tracing
from stream_app.api.service import ReadApi
from stream_app.burials import Burials
from stream_app.datadir import Datadir
from stream_app.encoder_process import EncoderProcess
from stream_app.errors import FixSettings, WaitForBroker
from stream_app.failures import is_expected
from stream_app.faust_app import make_app
from stream_app.holding import Holding
from stream_app.meters import Meters
from stream_app.partition import Partition, PartitionRevoked
from stream_app.parts import Parts, join
from stream_app.producer import BatchProducer
from stream_app.replaying.bounds import Bounds
from stream_app.serving.inside import Inside, lag_of
from stream_app.serving.operations import Operations
from stream_app.serving.server import HttpServer
from stream_app.settings import Settings
from stream_app.status import Counts, LoopLag, StatusFile
from stream_app.training_notes import window_misfits
from stream_app.uptake import Uptake

log = logging.getLogger("stream_app.worker")

_BROKER_RETRY_S = 2.0
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
        self._on_model = on_model
        self.counts, self._meters = Counts(), Meters()
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self.state = "starting"
        self._stopping = False
        self._parts: Parts | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_lag = LoopLag()
        self._datadir = Datadir(settings.datadir)
        self._status = StatusFile(settings.datadir / "status.json", self._describe)
        self._producer = BatchProducer(settings.kafka, settings.delivery_timeout_s)
        self._burials = Burials(settings, self._producer, self.counts, self._meters, self._fail)
        self._encoder_process = EncoderProcess(
            settings.encoder_config(),
            start_timeout_s=settings.encoder_start_timeout_s,
            request_timeout_s=settings.encode_timeout_s,
            answered=self._meters.encoder_answered,
            log_style=settings.log_style(),
        )
        self.app, table = make_app(
            settings,
            self,
            ends=bounds.ends if bounds else {},
            agent=self._agent,
            on_recovered=self._on_recovered,
            on_revoked=self._on_revoked,
        )
        self._holding = Holding(settings, bounds, self.app, table, self._fail)
        self._uptake = Uptake(
            settings, bounds, self.app, self._holding, self._burials, self.counts, self._meters
        )
        self._tracing = tracing.of(settings)
        self._lag = lag_of(self.app, self._holding, settings.events_topic)
        inside = self._inside()
        self._api = ReadApi(inside, self._burials) if settings.serves_api else None
        self._server = HttpServer(
            settings,
            [*Operations(inside).routes(), *(self._api.routes() if self._api else ())],
            {"/v1": self._api.app()} if self._api else {},
        )

    # -- called by the Faust app

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            if self._stopping or self.failure is not None:
                continue  # never acknowledged, so delivered again to whoever comes next
            try:
                await self._uptake.take(event)
            except PartitionRevoked as error:
                log.info("%s", error)
            except Exception as error:  # noqa: BLE001 - no event is acknowledged from here on
                self._fail(error)

    async def _on_recovered(self) -> None:
        """Begin with the partitions whose windows Faust has just restored."""
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - Faust would take it for a crash of its own
            self._fail(error)

    async def _begin(self) -> None:
        assigned = await self._holding.begin()
        self.state = "running"
        log.info("Partitions assigned and restored: %s", sorted(self._holding.partitions) or "none")
        self._joined().item_vectors.want(assigned)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self.state = "rebalancing"
        await self._holding.give_up(store=self.failure is None)

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
        await self._server.start()
        await self._wait_for_broker()
        info = await self._encoder_process.start()
        if self._on_model is not None:
            await self._on_model(info)
        self._datadir.check(info, settings.app_id, settings.updates_topic)
        parts = self._join(info)
        parts.rounds.tracing = self._tracing
        await self._producer.start(
            [
                settings.updates_topic,
                settings.changelog_topic,
                settings.dead_letters_topic,
                settings.item_vectors_topic,
            ]
        )
        await parts.catalogue.start()
        for coroutine in (
            self._loop_lag.watch(),
            self._status.keep_fresh(),
            parts.catalogue.follow(),
            parts.rounds.run(),
            parts.checkpoints.run(),
            self._holding.look_after_idle(),
            self._holding.touch_holders(),
            parts.sweep.run(),
            topic_watch.watch(settings),
            *(self._api.begin(parts, info) if self._api else ()),
        ):
            self._spawn(coroutine)
        if settings.http_port:
            self._spawn(self._lag.watch())
        if settings.publish_item_vectors:
            self._spawn(parts.item_vectors.run())
        start_block.tell(settings, info, await self._producer.partitions(settings.events_topic))
        for misfit in window_misfits(info, settings.window_policy()):
            log.warning(misfit)
        if settings.publish_interests and not info.interests:
            log.warning(
                "publish_interests is set, but model %s has one vector per user: updates carry no "
                "interests; `interest-stream train --interests K` makes a model that has K",
                info.model_id,
            )

    def _join(self, info: EncoderInfo) -> Parts:
        """Make the parts that need to know the model, and join them."""
        self._parts = self._holding.parts = join(
            self.settings,
            info,
            self.counts,
            self._meters,
            ours=self._holding.ours,
            producer=self._producer,
            burials=self._burials,
            encoder_process=self._encoder_process,
            renewed_at=lambda: self.app.consumer.lease_renewed_at,  # type: ignore[attr-defined]
            on_items_changed=self._on_items_changed,
        )
        return self._parts

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
        if self.failure is None and self._holding.partitions:
            await self._holding.last_checkpoint(self.settings.stop_timeout_s * 0.6)
        self._holding.drop()  # their databases close now: who looks after idle ones finds none

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
        if self._parts is not None:
            await self._parts.catalogue.stop()
        await self._encoder_process.stop()
        await self._tracing.close()
        if self._datadir.held:
            self._status.try_to_write()
        self._datadir.release()
        await self._server.stop()

    def on_refused(self, error: Exception) -> None:
        """Kafka does not let us read, or be in the group: no retry mends that."""
        self._fail(error)

    def held(self) -> Mapping[int, Partition]:
        """Return the partitions that are ours at this moment."""
        return dict(self._holding.partitions)

    def items_settled(self) -> bool:
        """Tell whether there is no item vector left to publish."""
        return not self.settings.publish_item_vectors or self._joined().item_vectors.settled

    # -- small parts

    def _inside(self) -> Inside:
        return Inside(
            self.settings,
            self.counts,
            self._meters,
            self.app,
            self._holding,
            self._encoder_process,
            self._loop_lag,
            self._lag,
            state=lambda: self.state,
            parts=lambda: self._parts,
        )

    def _joined(self) -> Parts:
        assert self._parts is not None, "asked for before the worker's start"
        return self._parts

    def _on_items_changed(self, item_ids: Sequence[str]) -> None:
        parts = self._joined()
        arrived = parts.encoder.items_changed(item_ids)
        parts.item_vectors.changed(item_ids)
        self._holding.items_arrived(arrived)

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
        partitions = self._holding.partitions.values()
        return {
            "state": self.state,
            "partitions": sorted(self._holding.partitions),
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
            "items_known": self._parts.catalogue.known if self._parts else 0,
            "loop_lag_ms_p99": self._loop_lag.percentile_ms(0.99),
            "loop_lag_ms_max": self._loop_lag.max_ms,
        }

    def _backlog(self) -> int:
        """Return how many source records lie between what is folded and the ends of the log."""
        behind = 0
        for partition in self._holding.partitions.values():
            end = self.app.monitor.tp_end_offsets.get(
                TP(self.settings.events_topic, partition.number)
            )
            if end is not None:
                behind += max(0, end - 1 - partition.last_offset)
        return behind
