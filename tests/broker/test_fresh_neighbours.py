"""examples/nearest.py on real topics: it keeps up with updates, tombstones, items and a model."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from stream_app.topics import partition_of
from stream_app.updates import UpdateEncoder
from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.deadline import PATIENCE_S
from tests.harness.load import Load
from tests.harness.scripts import load_script, run_script
from tests.harness.stream import PARTITIONS, Stream
from tests.unit.test_fresh_index import Vectors, by_brute_force, clustered, recall

pytestmark = pytest.mark.broker

nearest = load_script("nearest")


def user_message(user: str, vector: object, offset: int, model: str) -> Message:
    home = partition_of(user.encode(), PARTITIONS)
    encoder = UpdateEncoder("avro", model, "events", [], [])
    value = encoder.encode(user, np.asarray(vector, np.float32), None, 0, home, offset, 1)
    return Message(user.encode(), value, home)


def item_message(item: str, vector: object, model: str) -> Message:
    numbers = np.asarray(vector, np.float32).tolist()
    value = json.dumps({"item_id": item, "vector": numbers, "model_id": model}).encode()
    return Message(item.encode(), value)


class Topics:
    """What was written to both topics, and what a reader of ``model`` must hold."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.names = stream.settings
        self.users: Vectors = {}

    async def write(self, users: Vectors, offset: int, model: str) -> None:
        await self.produce(
            self.names.updates_topic,
            [user_message(user, vector, offset, model) for user, vector in users.items()],
        )
        self.users |= users

    async def forget(self, user: str) -> None:
        home = partition_of(user.encode(), PARTITIONS)
        await self.produce(self.names.updates_topic, [Message(user.encode(), None, home)])
        del self.users[user]

    async def write_items(self, items: Vectors, model: str) -> None:
        messages = [item_message(item, vector, model) for item, vector in items.items()]
        await self.produce(self.names.item_vectors_topic, messages)

    async def produce(self, topic: str, messages: list[Message]) -> None:
        await asyncio.to_thread(self.stream.client.produce, topic, messages)


def renamed(vectors: Vectors, letter: str) -> Vectors:
    return {letter + name: vector for name, vector in vectors.items()}


@pytest.fixture
def topics(stream: Stream) -> Topics:
    return Topics(stream)


async def test_the_index_is_what_the_topics_say(topics: Topics) -> None:
    await topics.write(clustered(1_500, 16, seed=1), 1, "old")
    items = renamed(clustered(600, 16, seed=2), "i")
    await topics.write_items(items, "old")
    neighbours = nearest.Neighbours(topics.names)
    async with neighbours.reader as reader, neighbours.item_vectors, asyncio.timeout(PATIENCE_S):
        await reader.catch_up()
        await neighbours.advance(0)
        assert (len(neighbours.users), len(neighbours.items)) == (1_500, 600)
        assert_near(neighbours, topics, items)

        moved = clustered(300, 16, seed=3, first=1_400)  # 100 move, 200 are new
        await topics.write(moved, 2, "old")
        await topics.forget("u7")
        del items["iu5"]
        await topics.produce(topics.names.item_vectors_topic, [Message(b"iu5", None)])
        seen: set[str] = set()
        while not seen >= {"u7", *moved} or await reader.lag():
            seen |= await neighbours.advance()
        assert (len(neighbours.users), len(neighbours.items)) == (1_699, 599)
        assert_near(neighbours, topics, items)

        of_new_model = renamed(clustered(600, 16, seed=9), "i")
        await topics.write_items(of_new_model, "new")
        await neighbours.advance(0)
        assert_near(neighbours, topics, items)
        everybody = dict(zip(topics.users, clustered(1_699, 16, seed=4).values(), strict=True))
        await topics.write(everybody, 3, "new")
        while reader.model_id == "old":
            await neighbours.advance()
        while await reader.lag():
            await neighbours.advance()
        assert (len(neighbours.users), len(neighbours.items)) == (1_699, 600)
        assert_near(neighbours, topics, of_new_model)


def assert_near(neighbours: object, topics: Topics, items: Vectors) -> None:
    """Users like a user and items for a user, against brute force over what was written."""
    queries = dict(list(topics.users.items())[::50])
    assert recall(neighbours.users, topics.users, queries) >= 0.95  # type: ignore[attr-defined]
    assert recall(neighbours.items, items, queries) >= 0.95  # type: ignore[attr-defined]


def test_the_script_prints_the_nearest_of_a_workers_topics(make_stream: StreamMaker) -> None:
    stream = make_stream(partitions=1)
    load = Load(events=150, users=10, items=20, leaving=0, forget=0)
    stream.publish(load.catalogue())
    worker = stream.worker()
    worker.wait_counts("item_vectors_published", 20)
    stream.send(load.messages())
    stream.drain()
    outcome = run_script("nearest", "user-3", "--count", "4", settings=stream.raw_settings)
    assert outcome.code == 0, outcome
    user, _, *lines = outcome.lines
    assert user == "user-3"
    at = lines.index("  users")
    last = {r.key.decode(): r for r in stream.updates() if r.key}
    vectors = {name: np.float32(json.loads(r.value or b"")["vector"]) for name, r in last.items()}
    others = {name: vector for name, vector in vectors.items() if name != "user-3"}
    printed = [line.split()[1] for line in lines[at + 1 :]]
    scores = sorted((float(vector @ vectors["user-3"]) for vector in others.values()), reverse=True)
    assert [float(line.split()[0]) for line in lines[at + 1 :]] == pytest.approx(
        scores[:4], abs=6e-4
    )
    assert set(printed) <= set(others)
    assert len(lines[:at]) == 4
    assert all(line.split()[1].startswith("item-") for line in lines[:at])
    refused = run_script("nearest", "nobody", settings=stream.raw_settings)
    assert "no update of user nobody" in str(refused.code)
    assert by_brute_force(others, vectors["user-3"], 4)[0] in printed
