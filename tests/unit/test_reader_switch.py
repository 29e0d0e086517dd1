"""What a reader hands out around a switch, on a topic whose fetches this test cuts itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from aiokafka.structs import ConsumerRecord

from stream_app.reader import ModelSwitch, UpdatesReader
from stream_app.updates import UpdateEncoder


def record(user: str, offset: int, model: str) -> ConsumerRecord:
    value = UpdateEncoder("json", model, "t", [], []).encode(
        user, np.array([offset], np.float32), None, 7, 0, offset, 1
    )
    return ConsumerRecord("updates", 0, offset, 0, 0, user.encode(), value, None, 0, 0, ())


class CutTopic:
    """One partition whose records come in the fetches given; ``first`` are there at the start."""

    def __init__(self, fetches: Sequence[list[ConsumerRecord]], first: int) -> None:
        self._fetches = list(fetches)
        self._all = sum(map(len, fetches))
        self._first = first
        self._read = 0
        self._asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ends(self) -> dict[Any, int]:
        self._asked += 1
        return {0: self._first if self._asked == 1 else self._all}

    async def behind(self, ends: dict[Any, int]) -> bool:
        return self._read < ends[0]

    async def records(self, within_s: float) -> list[ConsumerRecord]:
        fetched = self._fetches.pop(0) if self._fetches else []
        self._read += len(fetched)
        return fetched


async def read(
    fetches: Sequence[list[ConsumerRecord]], first: int, **options: Any
) -> tuple[list[ModelSwitch], list[tuple[str, int]]]:
    """Return the switches and, after catching up, what was handed out since the last one."""
    switches: list[ModelSwitch] = []
    reader = UpdatesReader("nowhere:9092", on_switch=switches.append, **options)
    reader._topic = CutTopic(fetches, first)  # type: ignore[assignment]
    async with reader:
        await reader.catch_up()
        changes = await reader.fetch(0)
    return switches, [(change.user_id, change.applied_offset) for change in changes]


async def test_what_follows_a_switch_within_a_catch_up_is_handed_out() -> None:
    """The callback has seen all users but these: an index built in it would miss them."""
    fetches = [[record("a", 1, "old")], [record("b", 2, "old")], [record("a", 3, "old")]]
    switches, changes = await read(fetches, first=2)
    assert switches == [ModelSwitch(None, "old", 2, 0)]
    assert changes == [("a", 3)]


async def test_what_is_of_the_old_model_in_the_same_fetch_is_not_handed_out() -> None:
    old, new = record("a", 2, "old"), [record("a", 3, "new"), record("a", 4, "new")]
    switches, changes = await read([[record("a", 1, "old")], [old, *new]], first=1)
    assert switches == [ModelSwitch(None, "old", 1, 0), ModelSwitch("old", "new", 1, 0)]
    assert changes == [("a", 3), ("a", 4)]


async def test_nothing_switches_before_the_topic_was_read_to_its_end() -> None:
    fetches = [[record("a", 1, "old")], [record("a", 2, "new")], [record("b", 3, "old")]]
    switches, changes = await read(fetches, first=3, model_id="old")
    assert not switches
    assert changes == []
    switches, _ = await read([*fetches, [record("b", 4, "new")]], first=3, model_id="old")
    assert switches == [ModelSwitch("old", "new", 2, 0)]


async def test_without_a_switch_a_catch_up_hands_out_nothing() -> None:
    reader = UpdatesReader("nowhere:9092")
    reader._topic = CutTopic([[record("a", 1, "old")], [record("b", 2, "old")]], 2)  # type: ignore[assignment]
    async with reader:
        await reader.catch_up()
        assert set(reader.updates) == {"a", "b"}
        assert await reader.fetch(0) == []
