"""The sweep: who expires, in which order, and that a kill at any point only repeats it."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from state import codec
from state.event import Event, EventType
from state.table import PartitionTable
from state.window import Window, WindowPolicy, fold
from stream_app.checkpoint import Checkpoints
from stream_app.intake import Decoded, fold_events
from stream_app.lease import Lease
from stream_app.meters import Meters
from stream_app.partition import Forgotten, Partition, PartitionRevoked
from stream_app.producer import OutRecord
from stream_app.status import Counts
from stream_app.sweep import Silent, Sweep, silent

POLICY = WindowPolicy(max_age_ms=100, expiry_ms=50)
"""Swept at 200 behind stream time."""


def view(name: str, time_ms: int) -> Event:
    return Event(name, "u", EventType.VIEW, item_id="i", time_ms=time_ms)


def stored(time_ms: int, offset: int = 1) -> bytes:
    window, _ = fold(None, view(f"e{time_ms}", time_ms), offset, POLICY)
    assert window is not None
    return codec.encode(window)


class World:
    """A partition with its table, and rounds and a changelog that write down what they are told."""

    def __init__(self, path: Path) -> None:
        self.table = PartitionTable(path, 1 << 20)
        self.partition = Partition(0, self.table)
        self.counts = Counts()
        self.published: list[tuple[bytes, Any]] = []
        self.changelog: list[OutRecord] = []
        self.steps: list[str] = []
        self.on_round = lambda: None
        changelog: Any = self
        self.checkpoints = Checkpoints(
            lambda: [self.partition],
            changelog,
            Lease(lambda: math.inf, 1.0),
            self.counts,
            Meters(),
            interval_ms=1000,
        )

    def put(self, rows: dict[bytes, bytes]) -> None:
        self.table.write(rows.items(), 0)

    def round(self) -> None:
        """What Rounds do, at once: publish who is touched."""
        self.on_round()
        states, self.partition.touched = self.partition.touched, {}
        self.published += states.items()
        self.steps.append("published")
        self.partition.covered(self.partition.tick)

    async def append(self, partition: Partition, rows: Sequence[OutRecord]) -> int | None:
        self.changelog += rows
        self.steps.append("changelog")
        return 1

    async def sweep(self, committed: int = 10) -> None:
        await self.new_sweep().sweep(self.partition, committed)

    def new_sweep(self, committed: Callable[[], dict[int, int]] = dict) -> Sweep:
        async def commits() -> dict[int, int]:
            return committed()

        return Sweep(
            lambda: [self.partition],
            self.round,
            self.checkpoints,
            commits,
            self.counts,
            sweep_ms=POLICY.sweep_ms,
            dirty_users_max=10_000,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "t")
    world.partition.stream_ms = world.partition.stored_stream_ms = 1_000
    world.partition.last_offset = 77
    return world


def test_only_windows_that_are_old_and_committed_expire() -> None:
    rows = [(b"old", stored(799)), (b"bound", stored(800)), (b"uncommitted", stored(1, offset=10))]
    found = silent(rows, 1_000 - POLICY.sweep_ms, committed=10)
    assert found == Silent([b"old"], [b"uncommitted"])


async def test_a_stall_does_not_hold_up_the_sweep_for_as_long_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second without a processor, at two hundredths of the loop's time, would be 50 to wait."""
    clock = itertools.count(step=60)
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("stream_app.sweep.time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("stream_app.sweep.asyncio.sleep", rest)
    world.put({b"old": stored(1)})
    await world.sweep()
    assert rests == [5.0]
    assert world.counts.expired == 1


async def test_updates_go_first_then_changelog_and_disk(world: World) -> None:
    world.put({b"old": stored(1), b"young": stored(900)})
    await world.sweep()
    gone = Forgotten(77, expired=True)
    assert world.published == [(b"old", gone)]
    assert world.partition.dirty == {b"old": gone}
    assert world.table.get_many([b"old"]) != [None], "until a checkpoint"
    await world.checkpoints.checkpoint(world.partition)
    assert world.steps == ["published", "changelog"]
    assert world.changelog == [OutRecord(b"old", None, [("applied_offset", b"77")])]
    assert world.table.get_many([b"old", b"young"]) == [None, stored(900)]
    assert world.counts.expired == 1
    assert b"old" not in world.partition.hot
    assert world.table.forgotten_at(b"old") is None


async def test_killed_after_the_update_was_deleted_the_sweep_repeats_it(world: World) -> None:
    world.put({b"old": stored(1)})
    await world.sweep()
    world.partition = Partition(0, world.table)  # a new process: nothing of memory is left
    world.partition.stream_ms = world.partition.stored_stream_ms = 1_000
    world.partition.last_offset = 78
    await world.sweep()
    await world.checkpoints.checkpoint(world.partition)
    assert [key for key, _ in world.published] == [b"old", b"old"]
    assert world.table.get_many([b"old"]) == [None]


async def test_who_acts_while_the_update_is_being_deleted_stays(world: World) -> None:
    world.put({b"old": stored(1)})

    def acts() -> None:
        partition = world.partition
        if not world.published:
            fold_events(partition, [Decoded(b"old", view("now", 100), 78)], POLICY)

    world.on_round = acts
    await world.sweep()
    assert world.counts.expired == 0
    ((key, window),) = world.published
    assert key == b"old"
    assert window.event_ids == ("e1", "now")
    assert world.partition.dirty[b"old"] is window


@pytest.mark.parametrize("where", ["dirty", "storing", "touched"])
async def test_what_is_on_its_way_is_left_alone(world: World, where: str) -> None:
    world.put({b"old": stored(1)})
    window = Window(applied_offset=9)
    getattr(world.partition, where)[b"old"] = window
    await world.sweep()
    assert world.partition.expiring == {}
    assert getattr(world.partition, where)[b"old"] is window
    assert world.counts.expired == 0


@pytest.mark.parametrize("why", ["uncommitted", "dirty"])
async def test_who_cannot_go_yet_goes_soon_though_stream_time_stands_still(
    world: World, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.sweep._PAUSE_S", 0.001)
    world.put({b"old": stored(1, offset=9)})
    if why == "dirty":
        world.partition.dirty[b"old"] = Window(applied_offset=9)
    asked = 0

    def commits() -> dict[int, int]:
        nonlocal asked
        asked += 1
        if asked > 1:
            world.partition.dirty.clear()
        return {0: 9 if why == "uncommitted" and asked == 1 else 10}

    went = asyncio.Event()
    world.on_round = went.set
    sweeping = asyncio.create_task(world.new_sweep(commits).run())
    await asyncio.wait_for(went.wait(), 10)
    await asyncio.sleep(0.05)
    sweeping.cancel()
    assert world.counts.expired == 1
    assert asked == 2, "once nobody is passed over, it rests until stream time moves"


async def test_the_sweep_waits_for_what_is_folded_to_be_in_the_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked through the table before the first checkpoint, and stream time may stand still."""
    monkeypatch.setattr("stream_app.sweep._PAUSE_S", 0.001)
    partition = world.partition = Partition(0, world.table)
    events = [Decoded(b"old", view("a", 1), 1), Decoded(b"clock", view("b", 1_000), 2)]
    fold_events(partition, events, POLICY)
    went = asyncio.Event()
    world.on_round = went.set
    sweeping = asyncio.create_task(world.new_sweep(lambda: {0: 10}).run())
    await asyncio.sleep(0.05)
    assert not went.is_set()
    partition.touched.clear()
    await world.checkpoints.checkpoint(partition)
    await asyncio.wait_for(went.wait(), 10)
    await asyncio.sleep(0.05)
    sweeping.cancel()
    assert world.counts.expired == 1


async def test_a_deletion_that_was_not_delivered_is_a_deletion_again(world: World) -> None:
    world.put({b"old": stored(1)})
    gone = Forgotten(77, expired=True)

    def fails_once() -> None:
        if not world.steps:
            world.partition.touch_again({b"old": world.partition.expiring[b"old"]})

    world.on_round = fails_once
    await world.sweep()
    assert world.published == [(b"old", gone)]


async def test_many_users_in_slices_and_none_is_missed(world: World) -> None:
    ages = {b"u%04d" % n: 1 if n % 3 else 900 for n in range(1_500)}
    world.put({key: stored(time_ms) for key, time_ms in ages.items()})
    await world.sweep()
    await world.checkpoints.checkpoint(world.partition)
    left = [key for key, _ in world.table.items()]
    assert left == [key for key, time_ms in ages.items() if time_ms == 900]
    assert world.counts.expired == 1_000


async def test_a_partition_that_leaves_ends_the_sweep(world: World) -> None:
    world.put({b"old": stored(1)})
    world.on_round = world.partition.revoke
    with pytest.raises(PartitionRevoked):
        await world.sweep()
    assert world.partition.dirty == {}


def test_stream_time_is_not_that_of_a_forget_not_even_delivered_again(world: World) -> None:
    partition = world.partition
    fold_events(partition, [Decoded(b"a", view("a", 2_000), 80)], POLICY)
    assert partition.stream_ms == 2_000
    fold_events(partition, [Decoded(b"a", view("b", 1_950), 81)], POLICY)
    forget = Event("f", "a", EventType.FORGET, time_ms=9_000)
    fold_events(partition, [Decoded(b"a", forget, 82)], POLICY)
    fold_events(partition, [Decoded(b"a", view("c", 1_960), 83)], POLICY)
    fold_events(partition, [Decoded(b"a", forget, 82)], POLICY)
    assert partition.stream_ms == 2_000
