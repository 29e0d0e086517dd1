"""A nearest-neighbour index kept fresh from the topics: items for a user, and users like a user.

    python examples/nearest.py alice --count 3
    python examples/nearest.py alice --follow

Updates replace vectors, tombstones delete them, and another model takes over for users and items
at once. ``--follow`` goes on, and prints anew whenever the user's vector has changed.

Settings (broker, names of topics) are those of the worker: INTEREST_… or interest-stream.toml.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import faiss
import msgspec
import numpy as np
import numpy.typing as npt
import typer

from stream_app.errors import FixData, InterestStreamError
from stream_app.followed_topic import FollowedTopic
from stream_app.reader import Change, ModelSwitch, UpdatesReader
from stream_app.settings import Settings, load

EXAMPLE = "Example: python examples/nearest.py alice --count 3 --follow"

Float32 = npt.NDArray[np.float32]
POINTS_PER_LIST = 39
"""Fewer vectors than this to learn a list's centre from, and faiss complains."""
PROBED_SHARE = 0.25
"""Of the lists that a query looks through: recall against speed."""
PROBED_LEAST = 8
"""A small index is quick anyway, and a neighbour more often in a list nearby."""
GROWTH = 4
"""After so much growth the lists are learned anew: each has become twice too long."""


class FreshIndex:
    """Nearest neighbours by dot product, of named vectors that come, change and go.

    faiss's inverted lists: the vectors lie in about sqrt(N) lists around learned centres, and a
    query looks through a share of them. A table says where each vector lies, so one is replaced or
    taken out without touching the rest; a graph (HNSW) cannot forget. Small indexes have one list,
    which is an exact search.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next_id = 0
        self._learned_from = 0
        self._index: faiss.IndexIVFFlat | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, vectors: Mapping[str, Sequence[float]]) -> None:
        """Add or replace. A vector of zeros says nothing, and is taken out."""
        self.remove(vectors)
        named = {name: vector for name, vector in vectors.items() if any(vector)}
        if not named:
            return
        numbers = np.array(list(named.values()), dtype=np.float32)
        ids = np.arange(self._next_id, self._next_id + len(named))
        self._next_id += len(named)
        self._ids.update(zip(named, ids.tolist(), strict=True))
        self._names.update(zip(ids.tolist(), named, strict=True))
        if self._index is None or len(self) > GROWTH * self._learned_from:
            ids, numbers = self._with_held(ids, numbers)
            self._index = self._learned(numbers)
        self._index.add_with_ids(numbers, ids)

    def remove(self, names: Mapping[str, object] | Sequence[str]) -> None:
        """Take out those of ``names`` that are held."""
        ids = [self._ids.pop(name) for name in names if name in self._ids]
        if ids and self._index is not None:
            self._index.remove_ids(np.array(ids))
            for number in ids:
                del self._names[number]

    def nearest(self, vector: Sequence[float], count: int) -> list[tuple[str, float]]:
        """Return the ``count`` names of the greatest dot product, with it, nearest first."""
        if self._index is None:
            return []
        query = np.array([vector], dtype=np.float32)
        scores, ids = self._index.search(query, count)
        return [
            (self._names[number], score)
            for number, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True)
            if number >= 0  # fewer were found
        ]

    def _with_held(self, ids: npt.NDArray[np.int64], numbers: Float32) -> tuple[object, Float32]:
        """Return ids and vectors [N, D] of all that is held, the new ones last."""
        held = np.array([number for number in self._names if number < ids[0]], dtype=np.int64)
        if self._index is None or not len(held):
            return ids, numbers
        old = self._index.reconstruct_batch(held)
        return np.concatenate([held, ids]), np.concatenate([old, numbers])

    def _learned(self, vectors: Float32) -> faiss.IndexIVFFlat:
        """Return an empty index with lists as ``vectors`` [N, D] suggest them."""
        count, dimensions = vectors.shape
        lists = max(1, min(math.isqrt(count), count // POINTS_PER_LIST))
        centres = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(centres, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # no warning of a shop with ten users
        index.train(vectors)
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
        index.nprobe = min(lists, max(PROBED_LEAST, math.ceil(lists * PROBED_SHARE)))
        self._learned_from = count
        return index


class Neighbours:
    """Users and items of one model, each in an index, as the topics have them now."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self.reader = UpdatesReader(kafka, settings.updates_topic, on_switch=self._switch)
        self.item_vectors = FollowedTopic(kafka, settings.item_vectors_topic)
        self._items_of = ""
        self.users = FreshIndex()
        self.items = FreshIndex()

    def _switch(self, switch: ModelSwitch) -> None:
        """Begin anew with the users of another model; its items follow with the next advance."""
        self.users = FreshIndex()
        self.users.put({user: update.vector for user, update in self.reader.updates.items()})

    async def advance(self, within_s: float = 0.5) -> set[str]:
        """Take up what is new on both topics; return the users whose vectors changed."""
        changes = await self.reader.fetch(within_s)
        last = {change.user_id: change for change in changes}
        self.users.put({user: _vector(change) for user, change in last.items()})
        await self._advance_items()
        return set(last)

    async def _advance_items(self) -> None:
        model_id = self.reader.model_id or ""
        if model_id != self._items_of:
            self.items, self._items_of = FreshIndex(), model_id
            await self.item_vectors.restart()
        ends = await self.item_vectors.ends()
        while await self.item_vectors.behind(ends):
            records = await self.item_vectors.records(within_s=0.5)
            last = {record.key.decode(): _item_vector(record.value, model_id) for record in records}
            self.items.put({name: vector for name, vector in last.items() if vector is not None})


class _Item(msgspec.Struct):
    vector: list[float]
    model_id: str


def _vector(change: Change) -> Sequence[float]:
    return change.update.vector if change.update else ()


def _item_vector(value: bytes | None, model_id: str) -> Sequence[float] | None:
    """Return an item's vector, empty for a tombstone; None if it is of another model."""
    if value is None:
        return ()
    item = msgspec.json.decode(value, type=_Item)
    return item.vector if item.model_id == model_id else None


def show(user: str, name: str, neighbours: Neighbours, count: int) -> None:
    """Print the items and users nearest to a user, who has another ``name`` in the updates where
    user ids are pseudonyms."""
    update = neighbours.reader.updates.get(name)
    print(user if update else f"{user} has no vector now")
    if update is None:
        return
    alike = [pair for pair in neighbours.users.nearest(update.vector, count + 1) if pair[0] != name]
    found = {"items": neighbours.items.nearest(update.vector, count), "users": alike[:count]}
    for heading, pairs in found.items():
        print(f"  {heading}")
        for neighbour, score in pairs:
            print(f"    {score:+.3f}  {neighbour}", flush=True)


async def follow(settings: Settings, user: str, count: int, on_and_on: bool) -> None:
    """Print the neighbours of a user, once or with every change."""
    neighbours = Neighbours(settings)
    name = settings.key_of(user).decode()
    async with neighbours.reader as reader, neighbours.item_vectors:
        await reader.catch_up()
        await neighbours.advance(0)
        if name not in reader.updates:
            raise FixData(f"{settings.updates_topic} has no update of user {user}")
        show(user, name, neighbours, count)
        while on_and_on:
            if name in await neighbours.advance():
                show(user, name, neighbours, count)


def nearest(
    user: Annotated[str, typer.Argument(help="User id.")],
    count: Annotated[int, typer.Option(min=1, help="Items and users, each.")] = 5,
    on_and_on: Annotated[bool, typer.Option("--follow", help="Until Ctrl-C.")] = False,
) -> None:
    """Print the items and users nearest to a user, from indexes kept fresh from the topics."""
    asyncio.run(follow(load(), user, count, on_and_on))


def main() -> None:
    """Run; what an operator can mend is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(nearest)
    try:
        app()
    except InterestStreamError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
