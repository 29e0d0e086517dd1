"""The reader on a real topic that this test writes itself: start, lag, poison, switch, faults."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from stream_app.blocking_reader import BlockingReader
from stream_app.errors import FixSettings
from stream_app.reader import Change, ModelSwitch, UpdatesReader
from stream_app.topics import partition_of
from stream_app.updates import UpdateEncoder
from tests.conftest import StreamMaker
from tests.harness.client import KafkaClient, Message
from tests.harness.deadline import PATIENCE_S, eventually
from tests.harness.stream import PARTITIONS, Stream

pytestmark = pytest.mark.broker

T0_MS = 1_790_000_000_000
USERS = tuple(f"user-{number}" for number in range(8))


class Topic:
    """An updates topic, written as workers would."""

    def __init__(self, client: KafkaClient, updates: str, events: str = "none") -> None:
        self.client = client
        self.name = updates
        self.events = events

    def write(
        self, user: str, offset: int, model: str = "old", *, at_ms: int = T0_MS,
        partition: int | None = None,
    ) -> None:  # fmt: skip
        home = partition_of(user.encode(), PARTITIONS) if partition is None else partition
        vector = np.array([offset, 1], np.float32)
        value = UpdateEncoder("json", model, self.events, [], []).encode(
            user, vector, None, T0_MS - 1_000, home, offset, 1
        )
        self.raw(user.encode(), value, partition=home, at_ms=at_ms)

    def raw(
        self, key: bytes | None, value: bytes | None, partition: int = 0, at_ms: int = T0_MS
    ) -> None:
        self.client.produce(self.name, [Message(key, value, partition, at_ms)])

    def reader(self, **options: object) -> UpdatesReader:
        return UpdatesReader(self.client.bootstrap, self.name, **options)  # type: ignore[arg-type]


@pytest.fixture
def topic(make_stream: StreamMaker) -> Topic:
    stream: Stream = make_stream()
    names = stream.settings
    return Topic(stream.client, names.updates_topic, names.events_topic)


async def next_changes(reader: UpdatesReader, count: int) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            found += await reader.fetch()
    return found


def brief(changes: list[Change]) -> set[tuple[str, int]]:
    return {(change.user_id, change.applied_offset) for change in changes}


async def test_where_a_reader_starts(topic: Topic) -> None:
    for n, user in enumerate(USERS):
        await asyncio.to_thread(topic.write, user, 1, at_ms=T0_MS + 1_000 * n)
    late = {(user, 1) for user in USERS[5:]}
    async with (
        topic.reader() as whole,
        topic.reader(start=T0_MS + 4_001) as part,
        topic.reader(start=T0_MS + 9_000) as behind_the_last,
        topic.reader(start="now") as new,
    ):
        assert [await reader.lag() for reader in (whole, new)] == [8, 0]
        assert brief(await next_changes(part, 3)) == late
        for reader in (whole, behind_the_last, new):
            await reader.catch_up()
        assert set(whole.updates) == set(USERS)
        assert not new.updates
        assert not behind_the_last.updates
        await asyncio.to_thread(topic.write, "user-0", 2)
        for reader in (whole, part, behind_the_last, new):
            assert brief(await next_changes(reader, 1)) == {("user-0", 2)}
        assert await new.lag() == 0


async def test_how_old_and_how_far_behind(topic: Topic) -> None:
    partition = partition_of(b"user-0", PARTITIONS)
    events = [Message(b"user-0", b"{}", partition)] * 10
    await asyncio.to_thread(topic.client.produce, topic.events, events)
    async with topic.reader() as reader:
        assert await reader.source_lag() == {}
        await asyncio.to_thread(topic.write, "user-0", 6)
        await reader.catch_up()
        assert await reader.source_lag() == {partition: 3}
        assert reader.staleness("user-0", T0_MS + 500) == (1_500, 500)
        await asyncio.to_thread(topic.write, "user-0", 9)
        assert await reader.lag() == 1
        await reader.catch_up()
        assert await reader.source_lag() == {partition: 0}


async def test_poison_is_counted_and_passed_over(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(topic.write, "user-0", 1)
    for key, value in ((b"user-1", b"junk"), (b"\xff", b"{}"), (b"user-1", b'{"user_id": "u"}')):
        await asyncio.to_thread(topic.raw, key, value)
    await asyncio.to_thread(topic.write, "user-2", 1)
    async with topic.reader() as reader:
        await reader.catch_up()
        assert set(reader.updates) == {"user-0", "user-2"}
        assert reader.poison == 3
    lines = [line for line in caplog.messages if line.startswith("passed over, no update: ")]
    assert len(lines) == 3
    assert all(f"{topic.name}/0/" in line for line in lines)


async def test_leaving_an_iteration_loses_no_change(topic: Topic) -> None:
    for user in USERS:
        await asyncio.to_thread(topic.write, user, 1)
    async with topic.reader() as reader:
        seen: list[Change] = []
        async with asyncio.timeout(PATIENCE_S):
            async for change in reader:
                seen.append(change)
                break
            seen += await next_changes(reader, len(USERS) - 1)
        assert brief(seen) == {(user, 1) for user in USERS}
        await asyncio.to_thread(topic.raw, b"user-3", None, partition_of(b"user-3", PARTITIONS))
        (gone,) = await next_changes(reader, 1)
        assert (gone.user_id, gone.update) == ("user-3", None)
        assert set(reader.updates) == set(USERS) - {"user-3"}


async def test_models_switch_at_once_and_no_change_of_the_old_one_comes_after(
    topic: Topic,
) -> None:
    """Rolling restart, then ``replay promote`` for who was not touched; a fresh reader, too."""
    for user in USERS:
        await asyncio.to_thread(topic.write, user, 5)
    switches: list[tuple[ModelSwitch, dict[str, int]]] = []

    def on_switch(switch: ModelSwitch) -> None:
        assert {update.model_id for update in reader.updates.values()} == {switch.new}
        held = {user: update.applied_offset for user, update in reader.updates.items()}
        switches.append((switch, held))

    async with topic.reader(on_switch=on_switch) as reader:
        await reader.catch_up()
        assert [switch for switch, _ in switches] == [ModelSwitch(None, "old", 8, 0)]
        for user in USERS[:4]:
            await asyncio.to_thread(topic.write, user, 6, "new")
        await asyncio.to_thread(topic.write, USERS[7], 6, "old")
        assert brief(await next_changes(reader, 1)) == {(USERS[7], 6)}
        assert reader.model_id == "old"
        await asyncio.to_thread(topic.write, USERS[6], 6, "old")
        for user, offset in zip(USERS[4:], (5, 5, 6, 6), strict=True):
            await asyncio.to_thread(topic.write, user, offset, "new")
        changes: list[Change] = []
        async with asyncio.timeout(PATIENCE_S):
            while reader.model_id == "old":
                changes = await reader.fetch()
        await asyncio.to_thread(topic.write, USERS[0], 7, "new")
        while (USERS[0], 7) not in brief(changes):
            changes += await next_changes(reader, 1)
        assert {change.update and change.update.model_id for change in changes} == {"new"}
        reached = dict(zip(USERS, (6, 6, 6, 6, 5, 5, 6, 6), strict=True))
        assert switches[1] == (ModelSwitch("old", "new", 8, 0), reached)
    fresh: list[ModelSwitch] = []
    async with topic.reader(on_switch=fresh.append) as late:
        await late.catch_up()
    assert fresh == [ModelSwitch(None, "new", 8, 0)]


async def test_more_partitions_are_read_and_who_moved_is_known_by_time(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stream_app.followed_topic._METADATA_MS", 300)
    await asyncio.to_thread(topic.write, "user-0", 900)
    async with topic.reader(start="now") as reader, topic.reader() as whole:
        await whole.catch_up()
        admin = AIOKafkaAdminClient(bootstrap_servers=topic.client.bootstrap)
        await admin.start()
        await admin.create_partitions({topic.name: NewPartitions(PARTITIONS + 2)})
        await admin.close()
        moved_to = PARTITIONS + 1
        await asyncio.to_thread(
            eventually,
            lambda: moved_to in topic.client.ends(topic.name),
            what="the new partitions led",
        )
        await asyncio.to_thread(topic.write, "user-0", 3, partition=moved_to, at_ms=T0_MS + 1_000)
        for each in (reader, whole):
            assert brief(await next_changes(each, 1)) == {("user-0", 3)}
            assert each.updates["user-0"].partition == moved_to
    assert f"{topic.name} has 6 partitions now, had 4" in caplog.text


async def test_a_topic_that_is_not_there_is_said(topic: Topic) -> None:
    with pytest.raises(FixSettings, match=r"no topic nowhere\.updates"):
        async with UpdatesReader(topic.client.bootstrap, "nowhere.updates"):
            pass


def test_without_asyncio_a_thread_keeps_up(topic: Topic) -> None:
    topic.write("user-0", 1)
    told: list[Change] = []
    with BlockingReader(topic.reader(), told.extend) as vectors:
        update = vectors.get("user-0")
        assert update is not None
        assert update.applied_offset == 1
        assert vectors.get("user-1") is None
        assert vectors.staleness("user-0", T0_MS + 500) == (1_500, 500)
        topic.write("user-1", 2)
        eventually(lambda: vectors.get("user-1"), what="the second user")
        assert set(vectors.snapshot()) == {"user-0", "user-1"}
    assert brief(told) == {("user-1", 2)}


def test_what_ends_the_thread_is_told_to_who_asks(topic: Topic) -> None:
    nowhere = BlockingReader(UpdatesReader(topic.client.bootstrap, "nowhere.updates"))
    with pytest.raises(FixSettings, match=r"no topic nowhere\.updates"):
        nowhere.__enter__()

    def fails(changes: list[Change]) -> None:
        raise ArithmeticError("an application's own")

    def follow() -> None:
        with BlockingReader(topic.reader(), fails) as vectors:
            topic.write("user-1", 1)
            eventually(lambda: vectors.get("nobody"), what="the failure")

    topic.write("user-0", 1)
    with pytest.raises(ArithmeticError, match="an application's own"):
        follow()
