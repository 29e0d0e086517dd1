"""Windows in memory: which go when there are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.table import PartitionTable
from state.window import Window
from stream_app.partition import Partition


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    return Partition(0, PartitionTable(tmp_path / "t", 1 << 20))


def hold(partition: Partition, numbers: range) -> None:
    partition.hot.update({b"%d" % number: Window(item_ids=("tent",)) for number in numbers})


def held(partition: Partition) -> list[int]:
    return [int(key) for key in partition.hot]


def test_an_eighth_more_goes_than_must_so_that_not_every_batch_has_to_look(
    partition: Partition,
) -> None:
    hold(partition, range(81))
    partition.cool(80)
    assert held(partition) == list(range(11, 81)), "the longest-held go"
    hold(partition, range(81, 91))
    partition.cool(80)
    assert len(partition.hot) == 80


def test_what_wants_storing_or_publishing_stays(partition: Partition) -> None:
    hold(partition, range(100))
    partition.dirty[b"0"] = partition.storing[b"1"] = partition.touched[b"2"] = Window()
    partition.cool(80)
    assert held(partition) == [0, 1, 2, *range(33, 100)]
