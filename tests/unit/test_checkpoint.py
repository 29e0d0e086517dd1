"""The checkpoint's order, and that nothing is lost whichever line it is stopped at."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from state import codec
from state.table import PartitionTable
from state.window import Window
from stream_app.checkpoint import Checkpoints
from stream_app.encoder_process import EncoderFailed
from stream_app.lease import Lease
from stream_app.meters import Meters
from stream_app.partition import Forgotten, Partition, PartitionRevoked, Taken
from stream_app.producer import DeliveryFailed, OutRecord
from stream_app.status import Counts


class Recorder:
    """Stands in for the changelog and for a RecordBatch, and writes down what happened when."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.failure: Exception | None = None
        self.rows: list[OutRecord] = []

    async def append(self, partition: Partition, rows: Sequence[OutRecord]) -> int | None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.steps.append("changelog")
        self.rows = list(rows)
        return 40 + len(rows)

    def ack(self) -> None:
        self.steps.append("ack")


class WatchedTable(PartitionTable):
    steps: list[str]

    def write(self, rows: Any, changelog_offset: int | None, as_of_ms: int | None = None) -> None:
        if hasattr(self, "steps"):
            self.steps.append("rocksdb")
        super().write(rows, changelog_offset, as_of_ms)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def partition(tmp_path: Path, recorder: Recorder) -> Partition:
    table = WatchedTable(tmp_path / "t", 1 << 20)
    table.steps = recorder.steps
    return Partition(3, table)


def checkpoints(recorder: Recorder, partition: Partition) -> Checkpoints:
    lease = Lease(lambda: math.inf, 1.0)
    changelog: Any = recorder
    return Checkpoints(lambda: [partition], changelog, lease, Counts(), Meters(), interval_ms=1000)


def touch(partition: Partition, key: bytes, offset: int) -> None:
    partition.hot[key] = partition.dirty[key] = Window(applied_offset=offset)


def take(partition: Partition, recorder: Recorder) -> None:
    partition.tick += 1
    partition.taken.append(Taken(partition.tick, recorder))


async def test_the_five_lines_happen_in_their_order(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    began_ms = int(time.time() * 1000)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    for _ in range(20):
        await asyncio.sleep(0)
    assert recorder.steps == ["changelog"]  # it waits for the updates of that tick
    appended_ms = int(time.time() * 1000) + 1
    await asyncio.sleep(0.05)
    partition.covered(1)
    await running
    assert recorder.steps == ["changelog", "rocksdb", "ack"]
    assert partition.table.changelog_offset() == 41
    assert began_ms <= (partition.table.as_of_ms() or 0) <= appended_ms
    assert codec.decode(partition.table.get_many([b"a"])[0] or b"").applied_offset == 1
    assert not partition.dirty
    assert not partition.taken


async def test_a_delivery_under_way_is_waited_for(partition: Partition, recorder: Recorder) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    acknowledged = asyncio.Event()

    async def delivery() -> None:
        await acknowledged.wait()

    partition.deliver(delivery())
    partition.covered(1)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.05)
    assert recorder.steps == ["changelog"]
    acknowledged.set()
    await running
    assert recorder.steps == ["changelog", "rocksdb", "ack"]


async def test_a_forgotten_users_texts_go_behind_the_rounds_and_before_the_tombstone(
    partition: Partition, recorder: Recorder
) -> None:
    """An earlier round would have them embedded again; without the window nobody knows them."""
    touch(partition, b"a", 1)
    take(partition, recorder)

    async def drop() -> None:
        recorder.steps.append("texts dropped")

    partition.drop_texts(drop)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.05)
    assert recorder.steps == []
    assert not partition.is_idle()
    partition.covered(1)
    await running
    assert recorder.steps == ["texts dropped", "changelog", "rocksdb", "ack"]


async def test_texts_that_cannot_be_dropped_let_no_tombstone_pass(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)

    async def drop() -> None:
        raise EncoderFailed("twice in a row")

    partition.drop_texts(drop)
    partition.covered(1)
    with pytest.raises(EncoderFailed):
        await checkpoints(recorder, partition).checkpoint(partition)
    assert recorder.steps == []
    assert partition.dirty


async def test_a_forget_in_a_record_batch_that_is_being_folded_is_waited_for(
    partition: Partition, recorder: Recorder
) -> None:
    """Its tombstone is dirty already, and who drops the texts comes behind the last slice."""
    touch(partition, b"a", 1)
    partition.forgotten_texts.append("a secret")
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.05)
    assert recorder.steps == []

    async def drop() -> None:
        recorder.steps.append("texts dropped")

    take(partition, recorder)
    partition.forgotten_texts.clear()
    partition.drop_texts(drop)
    partition.covered(1)
    await running
    assert recorder.steps[:2] == ["texts dropped", "changelog"]


async def test_texts_of_a_partition_that_leaves_are_dropped_behind_its_last_round(
    partition: Partition,
) -> None:
    dropped = asyncio.Event()

    async def drop() -> None:
        dropped.set()
        raise EncoderFailed("is not running any more")

    partition.round_begins()
    partition.tick += 1
    partition.drop_texts(drop)
    partition.revoke()
    await asyncio.sleep(0.05)
    assert not dropped.is_set(), "a round may still have them embedded"
    partition.round_ended()
    await asyncio.wait_for(dropped.wait(), 5)
    await asyncio.sleep(0)
    assert partition.failed_delivery is None, "whoever has it now is told anew"


async def test_updates_that_failed_are_waited_for_until_they_are_made_anew(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    partition.covered(1)
    partition.touch_again({b"a": Window(applied_offset=1)})
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.05)
    assert recorder.steps == ["changelog"]
    assert partition.touched[b"a"].applied_offset == 1
    partition.covered(partition.tick)
    await running
    assert recorder.steps[-1] == "ack"


async def test_a_failed_changelog_leaves_everything_to_be_tried_again(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    partition.covered(1)
    recorder.failure = DeliveryFailed("no broker")
    both = checkpoints(recorder, partition)
    attempt = asyncio.create_task(both.attempt(partition))
    await asyncio.sleep(0)
    touch(partition, b"b", 2)
    assert await attempt is False
    assert recorder.steps == []
    assert {key: state.applied_offset for key, state in partition.dirty.items()} == {
        b"a": 1,
        b"b": 2,
    }
    recorder.failure = None
    assert await both.attempt(partition) is True
    assert recorder.steps == ["changelog", "rocksdb", "ack"]


async def test_a_user_touched_during_a_checkpoint_stays_dirty(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.01)
    touch(partition, b"a", 2)
    take(partition, recorder)
    partition.covered(2)
    await running
    assert recorder.steps.count("ack") == 1
    assert partition.dirty[b"a"].applied_offset == 2
    assert [taken.tick for taken in partition.taken] == [2]


async def test_what_is_being_stored_stays_in_memory(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.01)
    partition.cool(0)
    assert b"a" in partition.hot  # the table does not have it yet
    partition.covered(1)
    await running
    partition.cool(0)
    assert b"a" not in partition.hot


async def test_a_forgotten_user_is_deleted_everywhere(
    partition: Partition, recorder: Recorder
) -> None:
    partition.table.write([(b"a", codec.encode(Window(applied_offset=1)))], 1)
    partition.hot[b"a"] = None
    partition.dirty[b"a"] = Forgotten(7)
    take(partition, recorder)
    partition.covered(1)
    await checkpoints(recorder, partition).checkpoint(partition)
    assert recorder.rows == [OutRecord(b"a", None, [("applied_offset", b"7")])]
    assert partition.table.get_many([b"a"]) == [None]
    assert b"a" not in partition.hot


async def test_a_revoked_partition_is_neither_stored_nor_acknowledged(
    partition: Partition, recorder: Recorder
) -> None:
    touch(partition, b"a", 1)
    take(partition, recorder)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0.01)
    partition.revoke()
    with pytest.raises(PartitionRevoked):
        await running
    assert recorder.steps == ["changelog"]


async def test_a_partition_may_be_revoked_in_the_middle_of_encoding(
    partition: Partition, recorder: Recorder
) -> None:
    """With more dirty users than one slice; the soak found what came of it: RuntimeError."""
    for user in range(1000):
        touch(partition, b"%d" % user, user)
    take(partition, recorder)
    running = asyncio.create_task(checkpoints(recorder, partition).checkpoint(partition))
    await asyncio.sleep(0)
    assert partition.storing
    assert recorder.steps == []
    partition.revoke()
    with pytest.raises(PartitionRevoked):
        await running
    assert recorder.steps == []


def test_a_revoked_partition_is_not_idle_for_its_table_may_be_closed(partition: Partition) -> None:
    """The look after idle partitions went to a closed database when a worker stopped."""
    assert partition.is_idle()
    partition.revoke()
    assert not partition.is_idle()


async def test_without_a_lease_nothing_is_written(partition: Partition, recorder: Recorder) -> None:
    touch(partition, b"a", 1)
    changelog: Any = recorder
    unheld = Lease(lambda: -math.inf, 1.0)
    frozen = Checkpoints(
        lambda: [partition], changelog, unheld, Counts(), Meters(), interval_ms=1000
    )
    running = asyncio.create_task(frozen.checkpoint(partition))
    await asyncio.sleep(0.15)
    assert recorder.steps == []
    partition.revoke()
    with pytest.raises(PartitionRevoked):
        await running
