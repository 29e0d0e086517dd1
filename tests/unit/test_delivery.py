"""What we use of Faust's inside: a new Faust that changes it must fail here, by name."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter, defaultdict, deque
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from faust.stores.base import Store
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream_app.delivery import BatchApp, BatchConsumer, RecordBatch
from stream_app.delivery.fetching import Fetched, LeasedConsumerThread

SOURCE = TP("events", 0)
OTHER = TP("changelog", 0)

USED = [
    (driver.Consumer, "_new_consumer_thread"),
    (Consumer, "_add_gap"),
    (Consumer, "_new_offset"),
    (Consumer, "_get_active_partitions"),
    (Consumer, "getmany"),
    (ThreadDelegateConsumer, "_new_consumer_thread"),
    (driver.AIOKafkaConsumerThread, "_commit"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.AIOKafkaConsumerThread, "on_start"),
    (driver.AIOKafkaConsumerThread, "seek_to_committed"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (driver.AIOKafkaConsumerThread, "_fetch_records"),
    (driver.AIOKafkaConsumerThread, "_gather_remaining_tasks"),
    (driver.AIOKafkaConsumerThread, "_seek_wait"),
    (driver.AIOKafkaConsumerThread, "_serve"),
    (driver.Transport, "Consumer"),
    (faust.Table, "_new_store"),
    (faust.Table, "on_recovery_completed"),
    (faust.App, "FlowControlQueue"),
    (faust.App, "on_first_start"),
    (faust.App, "on_rebalance_start"),
    (faust.App, "on_rebalance_end"),
    (faust.App, "on_stop"),
    (faust.App, "on_shutdown"),
    (Recovery, "flush_buffers"),
    (AIOKafkaConsumer, "end_offsets"),
    (Store, "on_rebalance"),
    (Store, "timer"),
    (GroupCoordinator, "_do_heartbeat"),
    (Fetcher, "_proc_fetch_request"),
    (Assignment, "state_value"),
    (Assignment, "tps"),
    (TopicPartitionState, "has_valid_position"),
    (TopicPartitionState, "position"),
]


def test_this_is_the_faust_it_was_written_for() -> None:
    assert version("faust-streaming").startswith("0.15."), (
        "faust-streaming has changed: read stream_app/delivery against it, then pin it anew"
    )


@pytest.mark.parametrize(("owner", "name"), USED, ids=lambda part: getattr(part, "__name__", part))
def test_every_private_name_is_still_there(owner: type, name: str) -> None:
    assert hasattr(owner, name), (
        f"{owner.__module__}.{owner.__qualname__}.{name} is gone: stream_app/delivery needs it"
    )


def test_the_consumer_still_keeps_its_acks_where_we_take_them() -> None:
    source = inspect.getsource(Consumer)
    for name in ("_acked", "_acked_index", "flow_active", "can_resume_flow"):
        assert f"self.{name}" in source, f"Consumer.{name} is gone: BatchConsumer needs it"
    source = inspect.getsource(AIOKafkaConsumer)
    for name in ("_isolation_level", "_fetch_max_wait_ms", "_subscription", "_max_poll_records"):
        assert f"self.{name}" in source, f"AIOKafkaConsumer.{name} is gone: fetching needs it"
    source = inspect.getsource(Recovery)
    for name in ("active_highwaters", "active_offsets"):
        assert f"self.{name}" in source, f"Recovery.{name} is gone: recovery_remaining needs it"
    source = inspect.getsource(GroupCoordinator)
    for name in ("_coordination_task", "_pending_exception"):
        assert f"self.{name}" in source, f"GroupCoordinator.{name} is gone: fetching needs it"


def bare_consumer() -> Any:
    """A consumer with only what commits and messages need: no thread, no broker."""
    consumer: Any = object.__new__(BatchConsumer)
    consumer.source_topic = "events"
    consumer._acked = {SOURCE: [], OTHER: []}
    consumer._acked_index = {SOURCE: set(), OTHER: set()}
    return consumer


def test_the_last_acknowledged_fetch_says_all() -> None:
    consumer = bare_consumer()
    assert consumer._new_offset(SOURCE) is None
    consumer._acked[SOURCE] += [499, 1300]  # the last offsets of two fetches, with a gap between
    consumer._acked_index[SOURCE] |= {499, 1300}
    assert consumer._new_offset(SOURCE) == 1301
    assert consumer._new_offset(SOURCE) is None
    assert not consumer._acked_index[SOURCE]


async def test_no_gaps_are_kept_for_the_source_topic() -> None:
    consumer = bare_consumer()
    await consumer._add_gap(SOURCE, 5, 9)  # would raise, for there is no interval tree here


def record(offset: int) -> Any:
    return SimpleNamespace(
        topic="events", partition=0, offset=offset, timestamp=1000, timestamp_type=0
    )


def test_a_fetch_is_one_message_at_its_last_offset_and_numbered() -> None:
    consumer = bare_consumer()
    consumer._sequences = defaultdict(int)
    consumer._sequences_since = 1
    consumer.app = SimpleNamespace(rebalancing_count=1)
    records = [record(7), record(8), record(12)]
    fetched = Fetched(SOURCE, records, 0, 13, 1.5)
    message = consumer._batch_message(fetched, generation=4)
    assert (message.offset, message.tp, message.generation_id) == (12, SOURCE, 4)
    assert message.value == RecordBatch(0, records, 13, 1.5)
    assert consumer._batch_message(fetched, 4).value.sequence == 1
    consumer.app.rebalancing_count = 2
    assert consumer._batch_message(fetched, 5).value.sequence == 0


def test_a_fetch_of_a_changelog_is_one_message_at_its_last_records_offset() -> None:
    """Not where the next fetch begins: recovery has reached the end when it has that record."""
    records = [record(7), record(12)]
    message = bare_consumer()._changelog_message(Fetched(OTHER, records, 0, 13, 0.0), generation=4)
    assert (message.offset, message.tp, message.value) == (12, OTHER, records)


class Position:
    """As much of aiokafka's consumer as fetching and seeking need: one position per partition."""

    _max_poll_records = 100

    def __init__(self, committed: dict[TP, int | None], log_starts: dict[TP, int]) -> None:
        self.committed_offsets = committed
        self._log_starts = log_starts
        self.assigned = {*committed, OTHER}
        self.sought: dict[TP, int] = {}
        self.fetch_next = {tp: offset for tp, offset in committed.items() if offset is not None}
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(
                assignment=SimpleNamespace(tps=self.fetch_next.keys(), state_value=self._state)
            )
        )

    def _state(self, tp: TP) -> Any:
        return SimpleNamespace(has_valid_position=True, position=self.fetch_next[tp])

    def assignment(self) -> set[TP]:
        return self.assigned

    async def committed(self, tp: TP) -> int | None:
        return self.committed_offsets.get(tp)

    async def beginning_offsets(self, tps: list[TP]) -> dict[TP, int]:
        return {tp: self._log_starts[tp] for tp in tps}

    def seek(self, tp: TP, offset: int) -> None:
        self.sought[tp] = offset


def bare_thread(position: Position, rebalancing: bool = False) -> Any:
    """A consumer thread with only what fetching and seeking need, reading from ``arriving``."""
    thread: Any = object.__new__(LeasedConsumerThread)
    thread._source_topic = "events"
    thread._seeks = Counter()
    thread._passed = {}
    thread._fetched = deque()
    thread._arrived, thread._taken = asyncio.Event(), asyncio.Event()
    thread._consumer = position
    thread.app = SimpleNamespace(rebalancing=rebalancing)
    thread.consumer = SimpleNamespace(
        flow_active=True, _get_active_partitions=lambda: {SOURCE, OTHER}
    )
    thread.arriving = {SOURCE: [record(7), record(8)], OTHER: [record(3)]}

    async def fetch_records(consumer: object, wanted: set[TP], **_: object) -> dict[TP, list[Any]]:
        thread.wanted = wanted
        return dict(thread.arriving)

    thread._fetch_records = fetch_records
    return thread


async def taken(thread: Any) -> list[tuple[TP, list[int]]]:
    thread._fetched += await thread._fetch()
    return [(each.tp, [record.offset for record in each.records]) for each in await current(thread)]


async def current(thread: Any) -> list[Fetched]:
    return [each for each in await thread.take(0.01) if thread.is_current(each)]


async def test_what_arrives_is_handed_over() -> None:
    thread = bare_thread(Position({SOURCE: 7}, {}))
    assert await taken(thread) == [(SOURCE, [7, 8]), (OTHER, [3])]
    assert thread.wanted == {SOURCE, OTHER}
    assert await thread.take(0.01) == []


async def test_a_commit_goes_past_what_holds_no_records() -> None:
    """Markers and aborted records of transactions, and what compaction took: once, not for ever."""
    position = Position({SOURCE: 7}, {})
    thread = bare_thread(position)
    await thread._seek_to_committed()
    position.fetch_next[SOURCE] = 10  # behind the records 7 and 8 lies a marker
    ends = [(each.tp, each.next_offset) for each in await thread._fetch()]
    assert ends == [(SOURCE, 10), (OTHER, 4)]
    thread.arriving = {}
    assert await thread._fetch() == []
    position.fetch_next[SOURCE] = 13  # and now an aborted transaction alone
    (gap,) = await thread._fetch()
    assert (gap.tp, gap.records, gap.next_offset) == (SOURCE, [], 13)
    assert thread.is_current(gap)
    assert await thread._fetch() == []
    position.fetch_next[SOURCE] = 20
    thread.app.rebalancing = True
    assert await thread._fetch() == []


async def test_in_a_rebalance_events_are_put_back_and_changelogs_go_on() -> None:
    position = Position({SOURCE: 7}, {})
    thread = bare_thread(position, rebalancing=True)
    assert await taken(thread) == [(OTHER, [3])]
    assert thread.wanted == {OTHER}
    assert position.sought == {SOURCE: 7}


async def test_what_was_drained_before_a_seek_is_dropped_for_it_comes_again() -> None:
    thread = bare_thread(Position({SOURCE: 7}, {}))
    thread._fetched += await thread._fetch()
    await thread._seek_to_committed()
    assert [each.tp for each in await current(thread)] == [OTHER]
    assert [tp for tp, _ in await taken(thread)] == [SOURCE, OTHER]


async def test_a_rebalance_under_way_is_not_waited_for_at_the_end() -> None:
    """aiokafka's own task may swallow a cancellation while it waits for its heartbeats to end."""
    swallowed = asyncio.Event()

    async def rejoining() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    thread = bare_thread(Position({}, {}))
    task = asyncio.create_task(rejoining())
    thread._consumer._coordinator = SimpleNamespace(_coordination_task=task)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await thread._stop_coordinating()
    assert swallowed.is_set()
    assert task.cancelled()


async def test_what_was_drained_of_a_changelog_that_has_left_us_is_dropped() -> None:
    """Handing it on asks aiokafka for the partition's end, which it has no more: a crash."""
    position = Position({SOURCE: 7}, {})
    thread = bare_thread(position)
    thread._fetched += await thread._fetch()
    position.assigned = {SOURCE}
    assert [each.tp for each in await current(thread)] == [SOURCE]


async def test_what_was_drained_before_a_rebalance_is_dropped_in_it() -> None:
    thread = bare_thread(Position({SOURCE: 7}, {}))
    thread._fetched += await thread._fetch()
    thread.app.rebalancing = True
    assert [each.tp for each in await current(thread)] == [OTHER]


class Handing(BatchConsumer):
    """A consumer that hands on what its thread has, and is never asked to stop."""

    should_stop = False


async def test_a_rebalance_that_begins_while_batches_are_handed_on_ends_it_at_once() -> None:
    """A batch handed on after it would take number 0 of those that follow the rebalance."""
    second = TP("events", 1)
    thread = bare_thread(Position({SOURCE: 7, second: 7}, {}))
    thread.app = SimpleNamespace(
        rebalancing=False,
        rebalancing_count=1,
        consumer_generation_id=4,
        monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
    )
    consumer: Any = object.__new__(Handing)
    consumer.source_topic, consumer.app, consumer._thread = "events", thread.app, thread
    consumer.flow_active, consumer.highwater = True, lambda _: 0
    consumer._sequences, consumer._sequences_since = defaultdict(int), -1
    thread._fetched += [Fetched(tp, [record(7)], 0, 8, 0.0) for tp in (SOURCE, second)]
    handed = consumer.getmany(0.01)
    assert (await anext(handed))[0] == SOURCE
    thread.app.rebalancing, thread.app.rebalancing_count = True, 2
    assert [tp async for tp, _ in handed] == []
    thread.app.rebalancing = False
    thread._fetched.append(Fetched(second, [record(7)], 0, 8, 0.0))
    ((_, message),) = [each async for each in consumer.getmany(0.01)]
    assert message.value.sequence == 0


async def test_a_partition_without_a_position_yet_does_not_stand_still() -> None:
    """Right after a rebalance; the soak found what came of it: AssertionError."""
    position = Position({SOURCE: 7}, {})
    new = TopicPartitionState(None)
    position._subscription.subscription.assignment.state_value = lambda _: new
    thread = bare_thread(position)
    thread.verify_event_path(0.0, SOURCE)
    with pytest.raises(AssertionError):
        _ = new.position


async def test_a_seek_goes_to_the_beginning_where_nothing_was_committed() -> None:
    fresh = TP("events", 1)
    position = Position({SOURCE: 40, fresh: None, OTHER: None}, {fresh: 12})
    committed = await bare_thread(position)._seek_to_committed()
    assert position.sought == {SOURCE: 40, fresh: 12}  # a changelog is sought by recovery
    assert committed == {SOURCE: 40, fresh: None, OTHER: None}


class Rebalanced(BatchApp):
    """An app with nothing but its rebalance flags."""

    def __init__(self) -> None:
        self._rebalance_lock = threading.Lock()
        self._recovering = 0
        self.recovering = False
        self.rebalancing_count = 0


@pytest.fixture
def rebalanced(monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(app: Any) -> None:
        app.rebalancing = True
        app.rebalancing_count += 1

    monkeypatch.setattr(faust.App, "on_rebalance_start", start)
    monkeypatch.setattr(
        faust.App, "on_rebalance_end", lambda app: setattr(app, "rebalancing", False)
    )
    return Rebalanced()


def test_the_end_of_a_rebalance_does_not_end_the_next_one(rebalanced: Any) -> None:
    rebalanced.on_rebalance_start()
    rebalanced.on_assigned()
    rebalanced.on_rebalance_start()  # while the first one's windows are restored
    rebalanced.on_rebalance_end()
    assert rebalanced.rebalancing
    rebalanced.on_assigned()
    rebalanced.on_rebalance_end()
    assert not rebalanced.rebalancing


def test_a_restore_that_is_cut_short_and_begun_anew_has_begun_when_the_first_did(
    rebalanced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_s = []
    for now_s, is_restored in ((100.0, False), (200.0, False), (300.0, True), (400.0, True)):
        monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
        rebalanced.on_rebalance_start()
        rebalanced.on_assigned()
        began_s.append(rebalanced.recovery_started_s)
        if is_restored:
            rebalanced.on_rebalance_end()
    assert began_s == [100.0, 100.0, 100.0, 400.0]


async def ending_thread(end: int, committed: int = 7) -> tuple[Any, Position]:
    """A thread whose source ends at ``end``, sought to what is committed; 7 and 8 are there."""
    position = Position({SOURCE: committed}, {})
    thread = bare_thread(position)
    thread._ends = {SOURCE: end}
    await thread._seek_to_committed()
    return thread, position


async def test_what_lies_behind_the_end_is_left_out_and_the_end_is_said_once() -> None:
    thread, position = await ending_thread(end=8)
    position.fetch_next[SOURCE] = 9
    found = {each.tp: each for each in await thread._fetch()}
    assert [record.offset for record in found[SOURCE].records] == [7]
    assert found[SOURCE].next_offset == 8
    assert [record.offset for record in found[OTHER].records] == [3]
    thread.arriving = {OTHER: [record(4)]}
    assert [each.tp for each in await thread._fetch()] == [OTHER]
    assert thread.wanted == {OTHER}  # no more is fetched of it
    await thread._seek_to_committed()  # a rebalance: what was drained may be gone
    position.fetch_next[SOURCE] = 9
    assert (SOURCE, [], 2, 8) in [fetched[:4] for fetched in await thread._fetch()]


async def test_a_gap_before_the_end_is_passed_by_position() -> None:
    thread, position = await ending_thread(end=12)
    position.fetch_next[SOURCE] = 9
    assert [each.next_offset for each in await thread._fetch() if each.tp == SOURCE] == [9]
    thread.arriving, position.fetch_next[SOURCE] = {}, 12  # markers only
    assert [fetched[:4] for fetched in await thread._fetch()] == [(SOURCE, [], 1, 12)]
    assert await thread._fetch() == []


async def test_a_gap_across_the_end_ends_there() -> None:
    thread, position = await ending_thread(end=12)
    thread.arriving, position.fetch_next[SOURCE] = {SOURCE: [record(14)]}, 15
    assert [fetched[:4] for fetched in await thread._fetch()] == [(SOURCE, [], 1, 12)]


async def test_an_end_committed_before_needs_no_message() -> None:
    thread, position = await ending_thread(end=12, committed=12)
    thread.arriving, position.fetch_next[SOURCE] = {OTHER: [record(4)]}, 12
    assert [each.tp for each in await thread._fetch()] == [OTHER]
    assert thread.wanted == {OTHER}
