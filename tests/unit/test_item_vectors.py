"""Item vectors: what is looked at, who may publish, and what counts as published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from stream_app import item_vectors
from stream_app.catalogue import Catalogue
from stream_app.item_vectors import ItemVectors
from stream_app.lease import Lease
from stream_app.producer import DeliveryFailed, OutRecord
from stream_app.status import Counts
from stream_app.topics import partition_of
from tests.unit.test_catalogue import TP, nowhere, record

PARTITIONS = 4
TEXTS = {f"item-{number:05d}": f"text {number}" for number in range(40)}


class World:
    """A catalogue, an encoder and a topic; what happens while texts are encoded is a test's."""

    def __init__(self, path: Path) -> None:
        self.counts = Counts()
        self.catalogue = Catalogue(
            path,
            "items",
            "",
            self.counts,
            max_text_chars=100,
            isolation_level="read_committed",
            changed=self._on_changed,
            bury=nowhere,
        )
        self.ours = set(range(PARTITIONS))
        self.poison: set[str] = set()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.renewed_at = float("inf")
        self.sent: list[str] = []
        self.full_looks = 0
        self._items = self.catalogue.items
        self.catalogue.items = self._looked  # type: ignore[method-assign]
        self.vectors = self.made("model-1")

    def made(self, model_id: str) -> ItemVectors:
        world: Any = self
        return ItemVectors(
            self.catalogue,
            world,
            world,
            lambda: [partition for partition in _PARTITIONS if partition.number in self.ours],
            Lease(lambda: self.renewed_at, 10.0),
            self.counts,
            topic="vectors",
            model_id=model_id,
            source_partitions=PARTITIONS,
        )

    def _on_changed(self, item_ids: Sequence[str]) -> None:
        self.vectors.changed(item_ids)

    def _looked(self) -> Any:
        self.full_looks += 1
        return self._items()

    async def put(self, texts: dict[str, str | None]) -> None:
        await self.catalogue._apply({TP: [record(0, *each) for each in texts.items()]})

    async def settled(self) -> None:
        async with asyncio.timeout(20):
            while not self.vectors.settled:  # noqa: ASYNC110 - a replay looks, too
                await asyncio.sleep(0.001)

    # -- the encoder
    async def item_vectors(self, item_ids: Sequence[str]) -> tuple[list[str], Any]:
        await asyncio.sleep(0)
        texts = self.catalogue.texts(item_ids)
        known = [
            item_id
            for item_id, text in zip(item_ids, texts, strict=True)
            if text is not None and item_id not in self.poison
        ]
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return known, np.zeros((len(known), 2), np.float32)

    # -- the producer
    async def partitions(self, topic: str) -> int:
        return 2

    async def send(
        self,
        topic: str,
        partition: int,
        records: Sequence[OutRecord],
        *,
        allowed: Callable[[], bool] = lambda: True,
    ) -> int:
        if not allowed():
            raise DeliveryFailed("the lease ran out")
        await asyncio.sleep(0)
        self.sent += [orjson.loads(each.value or b"")["item_id"] for each in records]
        return 0


class _Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


_PARTITIONS: list[Any] = [_Numbered(number) for number in range(PARTITIONS)]


def of_partition(number: int) -> list[str]:
    return [each for each in TEXTS if partition_of(each.encode(), PARTITIONS) == number]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Every item known, published and marked by ``model-1``."""
    monkeypatch.setattr(item_vectors, "_RETRY_S", 0.01)
    made = World(tmp_path / "catalogue")
    await made.put(dict(TEXTS))
    running = asyncio.create_task(made.vectors.run())
    made.vectors.want(made.ours)
    await made.settled()
    assert sorted(made.sent) == list(TEXTS)
    made.sent.clear()
    made.full_looks = 0
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    made.catalogue._db.close()


async def test_a_look_at_the_whole_catalogue_lets_the_loop_go_on(world: World) -> None:
    """All is published, so nothing is sent; the loop turns once per 100 items all the same."""
    await world.put({f"more-{number}": "tent" for number in range(3000)})
    await world.settled()
    world.sent.clear()
    turns = 0
    world.vectors.want(world.ours)
    while not world.vectors.settled:
        turns += 1
        await asyncio.sleep(0)
    assert world.sent == []
    assert turns >= 30


async def test_a_change_has_the_changed_items_looked_at_and_no_others(world: World) -> None:
    await world.put({"item-00003": "another text", "item-00004": None, "item-00005": "text 5"})
    await world.settled()
    assert world.sent == ["item-00003"]
    assert world.full_looks == 0


async def test_a_fetch_that_changes_nothing_has_nothing_looked_at(world: World) -> None:
    await world.put(dict(TEXTS))
    assert world.vectors.settled


async def test_very_many_changes_are_not_remembered_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_vectors, "_CHANGED_MAX", 10)
    await world.put({f"more-{number}": "tent" for number in range(11)})
    assert world.vectors._changed == set()
    await world.settled()
    assert len(world.sent) == 11
    assert world.full_looks == 1


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_partition_that_comes_back_is_published_again(world: World, at_once: bool) -> None:
    """Another owner may have published another model meanwhile; ours is the last word again.

    Also if both assignments come before the first one could be looked at.
    """
    world.ours = {0, 2, 3}
    world.vectors.want(world.ours)
    if not at_once:
        await world.settled()
        assert world.sent == []
    world.ours = {0, 1, 2, 3}
    world.vectors.want(world.ours)
    await world.settled()
    assert sorted(world.sent) == of_partition(1)


async def test_partitions_gone_while_a_look_is_under_way_keep_their_marks(world: World) -> None:
    """Between revocation and assignment nothing is ours; that alone says nothing of others."""
    world.ours = set()
    await world.put({"item-00003": "another text"})
    await world.settled()
    assert world.sent == []
    world.ours = set(range(PARTITIONS))
    world.vectors.want(world.ours)
    await world.settled()
    assert world.sent == ["item-00003"]


async def test_what_has_left_us_while_it_was_encoded_is_not_sent(world: World) -> None:
    async def leave() -> None:
        world.ours = {0, 2, 3}

    world.meanwhile = leave
    await world.put(dict.fromkeys(TEXTS, "another text"))
    await world.settled()
    assert set(world.sent) == set(TEXTS) - set(of_partition(1))
    world.sent.clear()
    world.ours = {0, 1, 2, 3}
    world.vectors.want(world.ours)
    await world.settled()
    assert sorted(world.sent) == of_partition(1)


async def test_nothing_is_sent_without_the_lease(world: World) -> None:
    world.renewed_at = 0.0
    await world.put({"item-00003": "another text"})
    await asyncio.sleep(0.05)
    assert world.sent == []
    world.renewed_at = float("inf")
    await world.settled()
    assert world.sent == ["item-00003"]


async def test_an_item_deleted_and_made_again_while_it_is_encoded_is_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same text: the encoder did not find it, but nothing is wrong with it."""
    encode = world.item_vectors

    async def make_again() -> None:
        await world.put({"new": "tent"})

    async def deleted_before(item_ids: Sequence[str]) -> tuple[list[str], Any]:
        monkeypatch.setattr(world, "item_vectors", encode)
        await world.put({"new": None})
        world.meanwhile = make_again
        return await encode(item_ids)

    monkeypatch.setattr(world, "item_vectors", deleted_before)
    await world.put({"new": "tent"})
    await world.settled()
    assert world.sent == ["new"]


async def test_an_item_gone_before_its_turn_is_not_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made again with the same text, it would be taken for published."""
    encode = world.item_vectors
    fresh: dict[str, str | None] = {f"new-{number}": f"tent {number}" for number in range(80)}
    gone = ""

    async def deleted_meanwhile(item_ids: Sequence[str]) -> tuple[list[str], Any]:
        nonlocal gone
        if not gone:
            gone = next(item_id for item_id in fresh if item_id not in item_ids)
            await world.put({gone: None})
        return await encode(item_ids)

    monkeypatch.setattr(world, "item_vectors", deleted_meanwhile)
    await world.put(fresh)
    await world.settled()
    assert len(world.sent) == len(fresh) - 1
    await world.put({gone: fresh[gone]})
    await world.settled()
    assert world.sent[-1] == gone


async def test_a_poison_text_is_not_tried_again(world: World) -> None:
    world.poison = {"bad"}
    await world.put({"bad": "poison"})
    await world.settled()
    assert world.catalogue.published(["bad"]) != [None]
    world.poison = set()
    world.vectors.want(world.ours)
    await world.settled()
    assert world.sent == []
