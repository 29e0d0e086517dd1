"""A promotion on topics written by hand: each case of a user, without a worker in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest

from encoders.interface import Float32
from stream_app import topics
from stream_app.errors import FixSettings
from stream_app.producer import BatchProducer, OutRecord
from stream_app.reader import UpdatesReader
from stream_app.replaying import drift, group, promotion
from stream_app.replaying.names import shadow_settings
from stream_app.replaying.plan import Plan, Reach, Request, fold_settings
from stream_app.replaying.plan_log import PlanLog
from stream_app.replaying.promotion_verdicts import Verdict
from stream_app.settings import Settings
from stream_app.topics import partition_of
from stream_app.updates import UpdateEncoder
from tests.conftest import StreamMaker

pytestmark = pytest.mark.broker

USERS = [f"user-{n}".encode() for n in range(40)]
FORGOTTEN, OTHER_WINDOW = USERS[3], USERS[5]
PARTITIONS = 2


class Topics:
    """A live stream of model ``old`` and a shadow of model ``new``: each user has one event."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shadow = shadow_settings(settings, "next")
        self.place = {user: partition_of(user, PARTITIONS) for user in USERS}
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.offset: dict[bytes, int] = {}
        for user in USERS:
            self.offset[user] = self.ends[self.place[user]]
            self.ends[self.place[user]] += 1
        random = np.random.default_rng(0)
        self.old = {user: _random(random) for user in USERS}
        self.new = {user: self.old[user] + 0.2 * _random(random) for user in USERS}
        self.producer = BatchProducer(settings.bootstrap_servers, 30)

    async def write(self) -> None:
        settings, shadow = self.settings, self.shadow
        await topics.create(shadow)
        await self.producer.start(
            [settings.events_topic, settings.updates_topic, shadow.updates_topic]
        )
        await self._send(settings.events_topic, {user: OutRecord(user, b"{}") for user in USERS})
        live = {user: self.update("old", user, self.old[user]) for user in USERS}
        live[FORGOTTEN] = self.tombstone(FORGOTTEN)
        await self._send(settings.updates_topic, live)
        made = {user: self.update("new", user, self.new[user]) for user in USERS}
        made[OTHER_WINDOW] = self.update("new", OTHER_WINDOW, self.new[OTHER_WINDOW], events=9)
        await self._send(shadow.updates_topic, made)
        for app_id in (settings.app_id, shadow.app_id):
            await self.commit(app_id)
        reach = {number: Reach(0, 0, end) for number, end in self.ends.items()}
        request = Request("earliest", "latest")
        folded = fold_settings(settings)
        plan = Plan(1, "next", settings.events_topic, request, reach, folded, (), 0, "new")
        await PlanLog(settings, "next").propose(plan)

    async def roll_over(self) -> None:
        """In each partition somebody has an event, and gets a vector of the new model."""
        first = {self.place[user]: user for user in reversed(USERS[6:])}
        made = {}
        for number, user in first.items():
            self.offset[user] = self.ends[number]
            self.ends[number] += 1
            made[user] = self.update("new", user, self.new[user], events=2)
        await self._send(self.settings.events_topic, {u: OutRecord(u, b"{}") for u in made})
        await self._send(self.settings.updates_topic, made)
        await self.commit(self.settings.app_id)

    async def commit(self, app_id: str) -> None:
        settings = self.settings
        await group.set_offsets(
            settings.bootstrap_servers, app_id, settings.events_topic, self.ends
        )

    def update(self, model_id: str, user: bytes, vector: Float32, events: int = 1) -> OutRecord:
        encoder = _encoder(self.settings, model_id)
        at = self.offset[user]
        value = encoder.encode(user.decode(), vector, None, 5, self.place[user], at, events)
        return OutRecord(user, value, encoder.headers(at))

    def tombstone(self, user: bytes) -> OutRecord:
        return OutRecord(user, None, _encoder(self.settings, "old").headers(self.offset[user]))

    async def _send(self, topic: str, records: Mapping[bytes, OutRecord]) -> None:
        for number in range(PARTITIONS):
            mine = [each for user, each in records.items() if self.place[user] == number]
            await self.producer.send(topic, number, mine)


def _random(random: np.random.Generator) -> Float32:
    return random.normal(size=8).astype(np.float32)


def _encoder(settings: Settings, model_id: str) -> UpdateEncoder:
    return UpdateEncoder("json", model_id, settings.events_topic, [], [])


def test_each_user_gets_what_is_due(make_stream: StreamMaker) -> None:
    asyncio.run(_each_user_gets_what_is_due(make_stream(partitions=PARTITIONS).settings))


async def _each_user_gets_what_is_due(settings: Settings) -> None:
    written = Topics(settings)
    await written.write()
    try:
        report = await drift.compare(settings, "next", "compare", 1_000)
        assert report.vectors.drift is not None
        assert report.vectors.drift.compared == len(USERS) - 1
        assert "publish_granularities, which was not set for the live and the shadow ones" in (
            report.granularities[0].reason
        )
        found = await promotion.look(settings, "next")
        assert found.not_rolled_over == {0: "old", 1: "old"}
        with pytest.raises(FixSettings, match="restart the workers with the new model"):
            promotion.check(found, before_rollover=False)

        await written.roll_over()
        found = await promotion.look(settings, "next")
        promotion.check(found, before_rollover=False)
        due = len(USERS) - 2 - PARTITIONS
        assert found.verdicts == {
            Verdict.COPY: due,
            Verdict.DONE: PARTITIONS,
            Verdict.OTHER_WINDOW: 1,
            Verdict.FORGOTTEN: 1,
        }
        assert found.shadow_behind_events == PARTITIONS
        done = await promotion.copy(settings, found, 10_000, lambda done, total: None)
        assert (done.copied, done.users, done.users_of_model) == (due, 39, 38)
        again = await promotion.copy(settings, found, 10_000, lambda done, total: None)
        assert again.copied == 0
    finally:
        await written.producer.stop()
    topic = settings.updates_topic
    async with UpdatesReader(settings.bootstrap_servers, topic, model_id="new") as reader:
        await reader.catch_up()
        left_out = {FORGOTTEN.decode(), OTHER_WINDOW.decode()}
        assert set(reader.updates) == {user.decode() for user in USERS} - left_out
        for user, update in reader.updates.items():
            assert np.array_equal(np.asarray(update.vector), written.new[user.encode()])
            assert update.applied_offset == written.offset[user.encode()]
