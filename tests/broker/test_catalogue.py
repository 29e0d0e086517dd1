"""Items that come late, items nobody knows, and the items' own vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.broker.test_train import QUICK, command
from tests.conformance.models import tiny_bert
from tests.conftest import StreamMaker
from tests.harness import checks, vectors
from tests.harness.client import Message
from tests.harness.clusters import images, world, write_files
from tests.harness.deadline import eventually
from tests.harness.load import BASE_MS, Load, event_message, item_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker


def _vector(stream: Stream, user: str) -> list[float]:
    record = checks.last_per_key(stream.updates()).get(user)
    return checks.decode_update(record)["vector"] if record and record.value else []


def _view(name: str) -> Message:
    """Return a view of the item ``new`` by ``early``."""
    event = {"event_id": name, "user_id": "early", "type": "view", "item_id": "new"}
    return event_message(event | {"time_ms": BASE_MS})


def test_an_item_that_comes_after_its_events_refreshes_the_update(stream: Stream) -> None:
    """The event counts at once, unknown; its text joins when the catalogue has it."""
    (worker,) = stream.start_workers(1)
    stream.send([_view("e1")])
    stream.drain()
    assert _vector(stream, "early") == [0.0] * stream.settings.stub_dimensions
    assert worker.wait_counts("unknown_items", 1) == 1
    stream.publish([item_message("new", "a red tent")])
    wanted = vectors.of_text("a red tent", stream.settings)
    eventually(
        lambda: _vector(stream, "early") == wanted,
        what=lambda: f"update of early with {wanted}; it has {_vector(stream, 'early')}",
    )
    stream.verify()


def test_an_item_whose_text_changes_counts_with_the_new_one(stream: Stream) -> None:
    """From the next event of a user on."""
    (worker,) = stream.start_workers(1)
    stream.publish([item_message("new", "a red tent")])
    worker.wait_counts("item_vectors_published", 1)
    stream.send([_view("e1")])
    stream.drain()
    assert _vector(stream, "early") == vectors.of_text("a red tent", stream.settings)
    stream.publish([item_message("new", "a blue tent")])
    worker.wait_counts("item_vectors_published", 2)
    stream.send([_view("e2")])
    stream.verify()


def test_two_workers_publish_every_item_vector_once(stream: Stream) -> None:
    """One record per item, with the vector of its text."""
    load = Load(items=64)
    workers = stream.start_workers(2)
    stream.publish(load.catalogue())
    texts = stream.item_texts()
    topic = stream.settings.item_vectors_topic
    eventually(
        lambda: sum(stream.client.ends(topic).values()) >= len(texts),
        what=lambda: f"{len(texts)} item vectors: {[w.status() for w in workers]}",
    )
    stream.stop_workers()
    records = stream.client.read(topic)
    found = {(record.key or b"").decode(): json.loads(record.value or b"") for record in records}
    assert len(records) == len(found) == len(texts)
    for item, text in texts.items():
        assert found[item]["item_id"] == item
        vector = checks.as_float32(found[item]["vector"])
        assert vector == vectors.of_item(text, stream.settings)
    shares = [worker.count("item_vectors_published") for worker in workers]
    assert min(shares) > 0
    assert sum(shares) == len(texts)


def test_a_restart_publishes_no_item_vector_again(make_stream: StreamMaker) -> None:
    """What was published of which text is remembered beside the catalogue."""
    stream = make_stream(partitions=1)
    stream.publish(Load(items=20).catalogue())
    (worker,) = stream.start_workers(1)
    worker.wait_counts("item_vectors_published", 20)
    stream.stop_workers()
    worker.start().wait_running()
    stream.publish([item_message("item-3", "an atlas")])
    worker.wait_counts("item_vectors_published", 1)
    stream.stop_workers()
    records = stream.client.read(stream.settings.item_vectors_topic)
    assert len(records) == 21
    last = json.loads(checks.last_per_key(records)["item-3"].value or b"")
    assert checks.as_float32(last["vector"]) == vectors.of_item("an atlas", stream.settings)


def test_what_an_item_brings_beside_its_text_counts_and_harms_nothing(
    make_stream: StreamMaker, tmp_path: Path
) -> None:
    """An image's vector moves its item's; a bad one is told of, and leaves the item its text."""
    text_model = tiny_bert(tmp_path / "bert")
    stream = make_stream(encoder="transformer", text_model=str(text_model))
    events, catalogue = world(users=24)
    write_files(stream.folder, events, catalogue, images(catalogue))
    files = ("--events", "events.jsonl", "--items", "items.jsonl")
    seeing = ("--granularities", "document,media")
    command(stream, text_model, "train", *files, *seeing, *QUICK, "model")
    stream.raw_settings["interest_model"] = str(stream.folder / "model")

    def item(item_id: str, **more: object) -> Message:
        line = {"item_id": item_id, "text": "a red tent", **more}
        return Message(item_id.encode(), json.dumps(line).encode())

    def published() -> dict[str, list[float]]:
        records = stream.client.read(stream.settings.item_vectors_topic)
        told = [json.loads(record.value) for record in records if record.value]
        return {one["item_id"]: one["vector"] for one in told}

    (worker,) = stream.start_workers(1)
    stream.publish(
        [
            item("plain"),
            item("seen", media_vector=[1.0] * 10),
            item("short", media_vector=[1.0] * 3),
            item("zero", media_vector=[0.0] * 10),
        ]
    )
    worker.wait_counts("item_vectors_published", 3)
    assert worker.wait_counts("items_refused", 1) == 1
    assert worker.wait_counts("media_refused", 1) == 1
    first = published()
    assert first.keys() == {"plain", "seen", "short"}
    assert first["short"] == first["plain"] != first["seen"]
    stream.publish([item("seen", media_vector=[-1.0] * 9 + [1.0])])
    worker.wait_counts("item_vectors_published", 4)
    assert published()["seen"] not in (first["seen"], first["plain"])
    stream.publish([item("seen")])
    worker.wait_counts("item_vectors_published", 5)
    assert published()["seen"] == first["plain"]
    letters = stream.client.read(stream.settings.dead_letters_topic)
    told = [dict(letter.headers) for letter in letters]
    details = {headers["reason"].decode(): headers["detail"].decode() for headers in told}
    assert "not all zero" in details["invalid-item"]
    assert details["media-not-usable"] == "media_vector has 3 numbers, the model takes 10"
