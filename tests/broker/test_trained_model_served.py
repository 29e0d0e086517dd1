"""What is served is what was evaluated: the ranks of published vectors are the offline ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import encoders
from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.evaluation.interest import all_time, held, put_texts, window_batch
from encoders.evaluation.metrics import ranks_of
from encoders.evaluation.prequential import replay
from encoders.evaluation.ranking import cosine_scores
from encoders.evaluation.streams import InterestStream
from encoders.interface import Float32
from state.event import Event
from state.window import WindowPolicy
from stream_app.settings import Settings
from tests.broker.test_train import QUICK, command
from tests.conformance.models import tiny_bert
from tests.conftest import StreamMaker
from tests.harness.client import Message, Record
from tests.harness.clusters import images, item_lines, world, write_files
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

Question = tuple[str, str]
"""A user and the new item that came next."""


@pytest.mark.parametrize("with_media", [False, True], ids=["text", "media"])
def test_published_vectors_rank_as_the_evaluation_says(
    make_stream: StreamMaker, tmp_path: Path, with_media: bool
) -> None:
    """A trained model behind a real Kafka, asked before every event with what was published.

    The one without media has two interests per user, too, and every update carries them.
    """
    text_model = tiny_bert(tmp_path / "bert")
    stream = make_stream(
        encoder="transformer", text_model=str(text_model), publish_interests=not with_media
    )
    events, catalogue = world(users=24, searches=True)
    media = images(catalogue) if with_media else {}
    write_files(stream.folder, events, catalogue, media)
    files = ("--events", "events.jsonl", "--items", "items.jsonl")
    asked = (
        ("--granularities", "document,media") if with_media else ("--residual", "--interests", "2")
    )
    command(stream, text_model, "train", *files, *asked, *QUICK, "model")
    stream.raw_settings["interest_model"] = str(stream.folder / "model")
    settings = Settings(**stream.raw_settings)  # type: ignore[arg-type]
    offline = _offline(in_time_order(from_events(events, catalogue, media=media)), settings)
    assert len(set(offline.ranks.values())) > 5, "a model that ranks all alike would show nothing"
    records = dict(zip(catalogue, item_lines(catalogue, media), strict=True))
    assert _online(stream, events, records) == offline.ranks
    last = {r["user_id"]: r.get("interests") for r in map(_value, stream.updates())}
    if with_media:
        assert set(last.values()) == {None}
        return
    assert set(last) == set(offline.interests)
    for user, several in offline.interests.items():
        assert np.shape(last[user]) == (2, 16)
        assert np.allclose(last[user], several, atol=1e-5)


class Offline(NamedTuple):
    """What the evaluation says: the rank of every new item, and interests [K, D] at the end."""

    ranks: dict[Question, int]
    interests: dict[str, Float32]


def _offline(data: Interactions, settings: Settings) -> Offline:
    encoder = encoders.build(settings.encoder_config())
    policy = WindowPolicy(settings.window_max_events, settings.window_max_age_ms)
    try:
        put_texts(encoder, data)
        result = replay(data, InterestStream(encoder, data, policy), start=0)
        told = [np.flatnonzero(data.users == user) for user in range(len(data.user_ids))]
        windows = [held(positions, data.times_ms, policy) for positions in told]
        several = encoder.encode(window_batch(data, windows, all_time(data, told))).several
    finally:
        encoder.close()
    asked = zip(result.users.tolist(), result.targets.tolist(), strict=True)
    named = [(data.user_ids[user], data.item_ids[item]) for user, item in asked]
    ranks = dict(zip(named, result.ranks.ranks.tolist(), strict=True))
    return Offline(ranks, {} if several is None else dict(zip(data.user_ids, several, strict=True)))


def _online(
    stream: Stream, events: list[Event], catalogue: dict[str, bytes]
) -> dict[Question, int]:
    """The same from the topics alone: one event of every user at a time, then the updates."""
    stream.publish([Message(item.encode(), line) for item, line in catalogue.items()])
    stream.start_workers(1)[0].wait_counts("item_vectors_published", len(catalogue))
    of_user: dict[str, list[Event]] = {}
    for event in events:
        of_user.setdefault(event.user_id, []).append(event)
    ranks: dict[Question, int] = {}
    met: dict[str, list[str]] = {user: [] for user in of_user}
    for number in range(max(map(len, of_user.values()))):
        wave = [held[number] for held in of_user.values() if number < len(held)]
        ranks |= _ranked(stream, [e for e in wave if _is_new(e, met)], met)
        for event in wave:
            if _is_new(event, met):
                met[event.user_id].append(event.item_id or "")
        stream.send([Message(e.user_id.encode(), _json(e)) for e in wave])
        stream.drain()
    return ranks


def _is_new(event: Event, met: dict[str, list[str]]) -> bool:
    return event.item_id is not None and event.item_id not in met[event.user_id]


def _ranked(stream: Stream, asked: list[Event], met: dict[str, list[str]]) -> dict[Question, int]:
    if not asked:
        return {}
    topic = stream.settings.item_vectors_topic
    items = {r["item_id"]: r["vector"] for r in map(_value, stream.client.read(topic))}
    users = {r["user_id"]: r["vector"] for r in map(_value, stream.updates())}
    names = list(items)
    place = {name: at for at, name in enumerate(names)}
    nothing = [0.0] * len(items[names[0]])
    scores = cosine_scores(
        np.array([users.get(event.user_id, nothing) for event in asked], np.float32),
        np.array(list(items.values()), np.float32),
    )
    seen = [np.array([place[i] for i in met[e.user_id]], np.int64) for e in asked]
    targets = np.array([place[event.item_id or ""] for event in asked])
    found = ranks_of(scores, targets, seen).ranks.tolist()
    return {(e.user_id, e.item_id or ""): rank for e, rank in zip(asked, found, strict=True)}


def _value(record: Record) -> dict[str, Any]:
    assert record.value is not None
    found: dict[str, Any] = json.loads(record.value)
    return found


def _json(event: Event) -> bytes:
    held = {name: getattr(event, name) for name in event.__struct_fields__}
    return json.dumps({k: v for k, v in held.items() if v is not None}).encode()
