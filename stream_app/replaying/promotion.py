"""``replay promote``: the vectors of a shadow become the live ones of the users who were silent.

The live workers have been restarted with the new model; from then on they give every user with an
event a vector of it. The shadow, made with the same model of the same past, has one for everybody
else. Those are copied into the live updates topic: same partition, same bytes.

Nothing is kept of how far it has come: what is to be done follows from the topics. So it can be
stopped, run again, and run beside the workers. A live worker sees strange records in its partition
(:mod:`stream_app.owned_log`) and publishes anew those of its users of whom it has something newer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_app import topics
from stream_app.errors import FixSettings, WaitForBroker
from stream_app.producer import BatchProducer, DeliveryFailed, OutRecord
from stream_app.replaying.names import shadow_settings
from stream_app.replaying.plan import Plan
from stream_app.replaying.plan_log import PlanLog
from stream_app.replaying.promotion_topics import (
    PROMOTED_HEADER,
    UpdatesPartition,
    item_evidence,
    newest,
    open_partition,
)
from stream_app.replaying.promotion_verdicts import Verdict, verdict
from stream_app.settings import Settings
from stream_app.topic_scan import to_the_end

RATE = 2_000
"""Records per second over all partitions. After a rebalance a worker reads what was published in
the last three session timeouts, a partition at a time, within 10 s: at this rate some 40 MB."""
_CHUNK = 200
"""Copied between two looks at what the live workers published meanwhile."""
_AGAIN_S = 1.0

Show = Callable[[int, int], None]
"""Called with how many partitions are looked through, and of how many."""


@dataclass
class Promotion:
    """What was done, and how the live topic stands."""

    name: str
    model_id: str
    dry_run: bool
    shadow_behind_events: int
    """Events that the live group has committed and the shadow has not."""
    not_rolled_over: dict[int, str]
    """Partitions whose worker's newest word is of another model, and which."""
    copied: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """Users by what was found of each; of the last look."""
    users: int = 0
    users_of_model: int = 0

    @property
    def complete(self) -> bool:
        """Whether a reader that insists on the model misses nobody."""
        return self.users == self.users_of_model

    def as_json(self) -> dict[str, Any]:
        """Return this as plain values."""
        return {**vars(self), "verdicts": dict(self.verdicts), "complete": self.complete}


async def look(settings: Settings, name: str) -> Promotion:
    """Return how the live topic and the shadow stand, with nothing done.

    Raises:
        FixSettings: there is no such replay, or it has no model yet.
        WaitForBroker: the broker does not answer.
    """
    plan = await PlanLog(settings, name).existing()
    if not plan.model_id:
        raise FixSettings(f"replay {name} has not begun: its model is not known")
    shadow = shadow_settings(settings, name)
    promotion = Promotion(
        name,
        plan.model_id,
        True,
        _behind(await topics.committed(settings), await topics.committed(shadow), plan),
        await _not_rolled_over(settings, plan.model_id),
    )
    await _Copying(settings, shadow, promotion, None, 0.0).once(lambda done, total: None)
    return promotion


def check(promotion: Promotion, *, before_rollover: bool) -> None:
    """Refuse while workers publish another model: their users' next vectors would be of that one.

    Raises:
        FixSettings: one line that says which partitions.
    """
    others = promotion.not_rolled_over
    if others and not before_rollover:
        models = ", ".join(sorted(set(others.values())))
        raise FixSettings(
            f"what was published last in partitions {', '.join(map(str, sorted(others)))} is of "
            f"model {models}, not of {promotion.model_id}: restart the workers with the new model "
            "first, one after the other; or, if they have been and these partitions were silent "
            "since, say --before-rollover"
        )


async def copy(settings: Settings, found: Promotion, rate: float, show: Show) -> Promotion:
    """Copy what is to be copied, and return how the live topic stands then.

    Raises:
        WaitForBroker: the broker does not answer; the same command goes on.
    """
    shadow = shadow_settings(settings, found.name)
    plan = await PlanLog(settings, found.name).existing()
    behind = _behind(await topics.committed(settings), await topics.committed(shadow), plan)
    promotion = Promotion(found.name, found.model_id, False, behind, found.not_rolled_over)
    producer = BatchProducer(settings.kafka, settings.delivery_timeout_s)
    try:
        await producer.start([settings.updates_topic])
        copying = _Copying(settings, shadow, promotion, producer, rate)
        deadline = time.monotonic() + settings.broker_wait_s
        while True:
            copied = promotion.copied
            await copying.once(show)
            waits = promotion.verdicts[Verdict.LEFT_TO_WORKERS]
            if promotion.copied == copied and (not waits or time.monotonic() > deadline):
                return promotion
            if waits:
                await asyncio.sleep(_AGAIN_S)
    except DeliveryFailed as error:
        raise WaitForBroker(f"{error}; the same command goes on with what is left") from error
    finally:
        await producer.stop()


def _behind(live: dict[int, int], shadow: dict[int, int], plan: Plan) -> int:
    return sum(
        max(0, end - shadow.get(number, plan.partitions[number].first))
        for number, end in live.items()
        if number in plan.partitions
    )


async def _not_rolled_over(settings: Settings, model_id: str) -> dict[int, str]:
    items = await item_evidence(settings)
    found: dict[int, str] = {}
    for number in range(settings.partitions):
        async with open_partition(settings, number) as (updates, _):
            await updates.catch_up()
        last = newest(updates.newest, items.get(number))
        if last is not None and last.model_id != model_id:
            found[number] = last.model_id
    return found


class _Copying:
    """Looks through both topics, partition by partition, and copies if it has a producer."""

    def __init__(
        self,
        settings: Settings,
        shadow: Settings,
        promotion: Promotion,
        producer: BatchProducer | None,
        rate: float,
    ) -> None:
        self._settings = settings
        self._shadow = shadow
        self._promotion = promotion
        self._producer = producer
        self._rate = rate

    async def once(self, show: Show) -> None:
        """Go through all partitions once, and count anew."""
        promotion = self._promotion
        promotion.verdicts.clear()
        promotion.users = promotion.users_of_model = 0
        committed = await topics.committed(self._settings)
        partitions = self._settings.partitions
        for number in range(partitions):
            show(number, partitions)
            await self._partition(number, committed.get(number, 0))
        show(partitions, partitions)

    async def _partition(self, number: int, committed: int) -> None:
        async with (
            open_partition(self._settings, number) as (live, _),
            open_partition(self._shadow, number) as (shadow, reader),
        ):
            await shadow.catch_up()
            await live.catch_up()
            wanted = {
                shadow.last[key].log_offset
                for key in shadow.last
                if self._verdict(key, live, shadow, committed) is Verdict.COPY
            }
            if self._producer is not None and wanted:
                chunk: list[OutRecord] = []
                await reader.seek_to_beginning()
                async for record in to_the_end(reader):
                    if record.offset in wanted:
                        promoted = (PROMOTED_HEADER, self._promotion.name.encode())
                        headers = [*record.headers, promoted]
                        chunk.append(OutRecord(record.key, record.value, headers))
                    if len(chunk) == _CHUNK:
                        await self._send(number, chunk, live, shadow, committed)
                        chunk = []
                await self._send(number, chunk, live, shadow, committed)
                await live.catch_up()
        self._count(live, shadow, committed)

    async def _send(
        self,
        number: int,
        chunk: Sequence[OutRecord],
        live: UpdatesPartition,
        shadow: UpdatesPartition,
        committed: int,
    ) -> None:
        """Send what of a chunk may still be sent: users may have had an event since the look."""
        await live.catch_up()
        still = [
            record
            for record in chunk
            if record.key is not None
            and self._verdict(record.key, live, shadow, committed) is Verdict.COPY
        ]
        if not still or self._producer is None:
            return
        await self._producer.send(self._settings.updates_topic, number, still)
        self._promotion.copied += len(still)
        await asyncio.sleep(len(still) / self._rate)

    def _verdict(
        self, key: bytes, live: UpdatesPartition, shadow: UpdatesPartition, committed: int
    ) -> Verdict:
        model_id = self._promotion.model_id
        return verdict(live.last.get(key), shadow.last.get(key), model_id, committed)

    def _count(self, live: UpdatesPartition, shadow: UpdatesPartition, committed: int) -> None:
        promotion = self._promotion
        for key in live.last.keys() | shadow.last.keys():
            promotion.verdicts[self._verdict(key, live, shadow, committed)] += 1
        alive = [last.model_id for last in live.last.values() if last.model_id is not None]
        promotion.users += len(alive)
        promotion.users_of_model += alive.count(promotion.model_id)
