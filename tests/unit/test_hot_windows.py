"""Windows in memory: which go when there are too many, and who looks through all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from state.table import PartitionTable
from state.window import Window
from stream_app.holding import Holding
from stream_app.partition import Partition
from stream_app.settings import Settings


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


async def test_one_look_at_all_windows_is_for_all_items_that_arrived_meanwhile(
    partition: Partition,
) -> None:
    looks = 0

    def want() -> None:
        nonlocal looks
        looks += 1

    app: Any = None
    holding = Holding(Settings(), None, app, app, lambda _: None)
    holding.parts = SimpleNamespace(rounds=SimpleNamespace(want=want))  # type: ignore[assignment]
    holding.partitions[0] = partition
    hold(partition, range(3000))
    partition.hot[b"others"] = Window(item_ids=("stove", "lamp"))
    running = asyncio.create_task(holding.touch_holders())
    holding.items_arrived({"lamp"})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in range(50):
        holding.items_arrived({f"item-{number}"})
    holding.items_arrived({"tent"})
    holding.items_arrived(set())
    async with asyncio.timeout(10):
        while len(partition.touched) < 3001:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert looks == 2
    running.cancel()
