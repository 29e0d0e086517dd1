"""How far a replay reaches when its end is moved, over a log of the test's making."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import OffsetAndTimestamp, TopicPartition

from stream_app.replaying.plan import Reach
from stream_app.replaying.positions import EARLIEST, AtOffsets, AtTime, Position
from stream_app.replaying.reach import SourceLog, further

HOUR_MS = 3_600_000


class OneAnHour:
    """A consumer of partitions whose record at offset n has the time n hours."""

    def __init__(self, ends: Mapping[int, int]) -> None:
        self._ends = ends
        self._offset = 0

    async def offsets_for_times(
        self, asked: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        found = {tp: -(-time_ms // HOUR_MS) for tp, time_ms in asked.items()}
        return {
            tp: OffsetAndTimestamp(at, at * HOUR_MS) if at < self._ends[tp.partition] else None
            for tp, at in found.items()
        }

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._offset = offset

    async def getone(self, tp: TopicPartition) -> Any:
        return SimpleNamespace(timestamp=self._offset * HOUR_MS)


async def extended(
    planned: Mapping[int, Reach],
    start: Position,
    warm_up_h: int,
    *,
    begins: Mapping[int, int] | None = None,
    ends: Mapping[int, int],
) -> tuple[dict[int, Reach], list[str]]:
    consumer: Any = OneAnHour(ends)
    all_begins = dict.fromkeys(ends, 0) | dict(begins or {})
    source = SourceLog("events", consumer, all_begins, dict(ends))
    return await further(source, planned, start, warm_up_h * HOUR_MS)


async def test_what_was_read_goes_on_to_the_end_and_keeps_its_beginning() -> None:
    planned = {0: Reach(3, 5, 8), 1: Reach(0, 0, 9)}
    reach, notes = await extended(planned, AtTime(5 * HOUR_MS), 2, ends={0: 20, 1: 7})
    assert reach == {0: Reach(3, 5, 20), 1: Reach(0, 0, 9)}
    assert notes == []


async def test_a_partition_that_was_empty_is_no_partition_left_out() -> None:
    planned = {0: Reach(0, 0, 8), 1: Reach(0, 0, 0)}
    reach, _ = await extended(planned, EARLIEST, 0, ends={0: 8, 1: 6})
    assert reach == {0: Reach(0, 0, 8), 1: Reach(0, 0, 6)}


async def test_what_the_request_does_not_name_stays_left_out() -> None:
    planned = {0: Reach(2, 2, 8), 1: Reach(0, 0, 0), 2: Reach(0, 0, 0)}
    reach, notes = await extended(
        planned, AtOffsets({0: 2, 2: 0}), 0, begins={1: 3}, ends={0: 9, 1: 6, 2: 6}
    )
    assert reach == {0: Reach(2, 2, 9), 1: Reach(0, 0, 0), 2: Reach(0, 0, 6)}
    assert notes == []


async def test_a_partition_that_was_quiet_is_warmed_up() -> None:
    """By the time that was asked for, or else by that of its first record."""
    planned = {0: Reach(10, 10, 10), 1: Reach(4, 6, 9)}
    ends = {0: 15, 1: 9}
    reach, notes = await extended(planned, AtTime(8 * HOUR_MS), 2, ends=ends)
    assert reach == {0: Reach(6, 10, 15), 1: Reach(4, 6, 9)}
    assert notes == []
    reach, _ = await extended(planned, AtOffsets({0: 10, 1: 6}), 2, ends=ends)
    assert reach[0] == Reach(8, 10, 15)


async def test_a_partition_that_is_quiet_still_waits_for_its_warm_up() -> None:
    planned = {0: Reach(10, 10, 10), 1: Reach(0, 5, 9)}
    reach, notes = await extended(planned, AtTime(8 * HOUR_MS), 2, ends={0: 10, 1: 11})
    assert reach == {0: Reach(10, 10, 10), 1: Reach(0, 5, 11)}
    assert notes == []


async def test_how_far_its_windows_can_be_trusted_is_said_of_a_partition_that_was_quiet() -> None:
    planned = {0: Reach(10, 10, 10), 1: Reach(5, 5, 8)}
    start, ends = AtTime(5 * HOUR_MS), {0: 15, 1: 9}
    _, (note,) = await extended(planned, start, 0, ends=ends)
    assert note.startswith("partition 0: windows begin empty at offset 10, though earlier events")
    _, (note,) = await extended(planned, start, 4, begins={0: 9, 1: 4}, ends=ends)
    assert note.startswith("partition 0: the log begins at offset 9")
