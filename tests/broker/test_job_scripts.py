"""The scripts that read the topics, on a stream with the real text model: meaning is asserted."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from state.pseudonyms import Pseudonyms
from stream_app import topics
from stream_app.acls import Acl, worker_acls
from stream_app.settings import Settings
from stream_app.user_view import read_item_space, read_user
from tests.conftest import StreamMaker
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient, Message
from tests.harness.scripts import run_script
from tests.harness.secured_kafka import SecuredKafka
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

SHELVES = {
    "camping": ["Two-person trekking tent", "Warm sleeping bag for frost", "Gas stove for hiking",
                "Waterproof hiking boots", "Inflatable camping mat"],
    "coffee": ["Espresso machine with steam wand", "Burr coffee grinder", "Ethiopian coffee beans",
               "Milk frother for cappuccino", "Paper filters for coffee"],
}  # fmt: skip
ITEMS = [
    {"item_id": f"{shelf}-{n}", "text": f"{text}.", "shelf": shelf, "price": 10 * n}
    for shelf, texts in SHELVES.items()
    for n, text in enumerate(texts)
]
MET = {"alice": ["camping-0", "camping-1"], "bob": ["coffee-0", "coffee-1"]}

ACTS = [
    {"event_id": f"{user}-{n}", "user_id": user, "type": "view", "item_id": item,
     "time_ms": 1_789_990_000_000 + n}
    for user, items in MET.items()
    for n, item in enumerate(items)
]  # fmt: skip


def message(key: str, value: Mapping[str, object]) -> Message:
    return Message(key.encode(), json.dumps(value).encode())


@pytest.fixture
def shop(make_stream: StreamMaker) -> Stream:
    """Alice camps, Bob drinks coffee; both are published."""
    stream = make_stream(encoder="transformer", partitions=1)
    stream.publish([message(str(item["item_id"]), item) for item in ITEMS])
    worker = stream.start_workers(1)[0]
    worker.wait_counts("item_vectors_published", len(ITEMS))
    stream.send([message(str(act["user_id"]), act) for act in ACTS])
    stream.drain()
    return stream


@pytest.fixture
def secured_shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stream]:
    """The same without meaning, behind TLS and a password, users under pseudonyms; among Alice's
    events is one that is none."""
    (tmp_path / "key").write_text(secrets.token_hex(16) + "\n")
    with SecuredKafka(tmp_path / "kafka") as kafka:
        client = KafkaClient(kafka.bootstrap)
        stream = Stream(
            client, tmp_path, SESSION_TIMEOUT_S, **kafka.settings(), partitions=1,
            pseudonym_key_file=str(tmp_path / "key"),
        )  # fmt: skip
        request.node.streams = [stream]
        by_hand = {**stream.raw_settings, "bootstrap_servers": kafka.bootstrap}
        for name in kafka.settings().keys() - {"bootstrap_servers"}:
            del by_hand[name]
        asyncio.run(topics.create(Settings(**by_hand)))  # type: ignore[arg-type]
        read = Acl("topic", stream.settings.item_vectors_topic, "Read")  # no worker needs it
        kafka.allow([*worker_acls(stream.settings), read])
        stream.publish([message(str(item["item_id"]), item) for item in ITEMS])
        stream.start_workers(1)[0].wait_counts("item_vectors_published", len(ITEMS))
        acts = [message(str(act["user_id"]), act) for act in ACTS]
        stream.send([*acts, Message(b"alice", b"not json")])
        stream.drain()
        yield stream
        stream.close()
        client.close()


def said(stream: Stream, name: str, *arguments: str) -> list[str]:
    outcome = run_script(name, *arguments, settings=stream.raw_settings)
    assert outcome.code == 0
    return outcome.lines


def refused(stream: Stream, name: str, *arguments: str, **changed: object) -> str:
    outcome = run_script(name, *arguments, settings={**stream.raw_settings, **changed})
    assert isinstance(outcome.code, str)
    assert outcome.code.startswith("error: ")
    assert len(outcome.code.splitlines()) == 1
    return outcome.code


def test_the_jobs_that_read_the_topics(shop: Stream) -> None:
    recommended = said(shop, "recommend", "alice", "bob", "--count", "3", "--diversity", "0")
    alice, bob = recommended.index("alice"), recommended.index("bob")
    assert [line.split()[1] for line in recommended[alice + 1 : bob - 1]] == nearest(shop, "alice")
    assert {line.split()[1] for line in recommended[bob + 1 : -1]} == {
        "coffee-2", "coffee-3", "coffee-4"
    }  # fmt: skip

    dear = said(shop, "recommend", "alice", "--where", "shelf=coffee", "--at-least", "price=30")
    assert {line.split()[1] for line in dear[1:-1]} == {"coffee-3", "coffee-4"}
    assert dear[1].endswith("coffee, 30") or dear[1].endswith("coffee, 40")
    assert "shelf=tea" in refused(shop, "recommend", "alice", "--where", "shelf=tea")
    assert "user nobody" in refused(shop, "recommend", "nobody")
    assert "'low' is no number" in refused(shop, "recommend", "alice", "--at-least", "price=low")

    reached = said(shop, "audience", "A week of hiking in the Alps, sleeping in a tent")
    assert [line.split()[1] for line in reached[:2]] == ["alice", "bob"]
    assert reached[2] == "2 of 2 users reach -1.00"
    coffee = said(shop, "audience", "A cappuccino on the house", "--count", "1")
    assert coffee[0].split()[1] == "bob"
    nobody = said(shop, "audience", "A cappuccino on the house", "--least", "1")
    assert nobody == ["0 of 2 users reach +1.00"]
    assert "no update is of model" in refused(shop, "audience", "tents", encoder="stub")

    into = said(shop, "customer_care", "bob", "--least-items", "1", "--count", "3")
    assert "coffee" in [line.split()[1] for line in into[1:4]]
    assert {line.split()[1] for line in into[5:8]} == {"coffee-2", "coffee-3", "coffee-4"}
    # The newest event counts most: so the untrained model weighs them.
    assert [line.split()[-1] for line in into[9:]] == ["coffee-1", "coffee-0"]
    assert "use the worker's settings" in refused(shop, "customer_care", "bob", encoder="stub")


def test_the_jobs_get_in_and_find_users_by_the_workers_settings(secured_shop: Stream) -> None:
    key = Path(str(secured_shop.raw_settings["pseudonym_key_file"])).read_text().strip()
    alice, bob = Pseudonyms(key).of("alice"), Pseudonyms(key).of("bob")

    recommended = said(secured_shop, "recommend", "alice", "--count", "10", "--diversity", "0")
    assert recommended[0] == "alice"
    found = [line.split()[1] for line in recommended[1:-1]]
    assert sorted(found) == sorted(
        str(i["item_id"]) for i in ITEMS if i["item_id"] not in MET["alice"]
    )

    near = said(secured_shop, "nearest", "alice", "--count", "10")
    assert near[0] == "alice"
    assert len(near[2:-2]) == 10
    assert near[-1].split()[1] == bob, "alice is not like herself"

    reached = said(secured_shop, "audience", "Warm sleeping bag for frost.")
    assert sorted(line.split()[1] for line in reached[:2]) == sorted([alice, bob])

    care = said(secured_shop, "customer_care", "alice", "--least-items", "1")
    assert care[0] == "alice is into"
    assert {line.split()[-1] for line in care[-2:]} == {"camping-0", "camping-1"}


def nearest(shop: Stream, user: str) -> list[str]:
    """Return the three nearest items that the user has not met, by hand."""
    view = asyncio.run(read_user(shop.settings, user))
    assert view.update is not None
    space = asyncio.run(read_item_space(shop.settings, view.update.model_id))
    order = np.argsort(-(space.vectors @ np.array(view.update.vector, dtype=np.float32)))
    return [space.item_ids[at] for at in order if space.item_ids[at] not in MET[user]][:3]
