"""Texts that no model survives, and vectors that are no numbers: who is harmed, and who is told."""

from __future__ import annotations

import json
import math

import pytest

from tests.conftest import StreamMaker
from tests.harness.client import Record
from tests.harness.deadline import eventually
from tests.harness.faults.encoder_faults import MODULE, QUICK
from tests.harness.faulty_encoder import NAN, POISON, RAISES
from tests.harness.load import BASE_MS, Load, event_message, item_message
from tests.harness.stream import SMALL_AND_QUICK, Stream

pytestmark = pytest.mark.faults

LOAD = Load(events=2_000, users=60)
NAN_ITEM, RAISING_ITEM = f"{POISON} {NAN} tent", f"{POISON} {RAISES} tent"
NAN_TEXT = f"where is a {NAN_ITEM}"


def test_poison_harms_its_own_users_and_nobody_else(make_stream: StreamMaker) -> None:
    stream = make_stream(**QUICK)
    stream.worker_module = MODULE
    poison = [item_message("nan", NAN_ITEM), item_message("raises", RAISING_ITEM)]
    stream.publish([*LOAD.catalogue(), *poison])
    (worker,) = stream.start_workers(1)
    messages = LOAD.messages()
    half = len(messages) // 2
    stream.send(
        [
            *messages[: half // 2],
            event_message(view("raises", "raises", -1)),
            event_message(view("nan", None, -1) | {"type": "search", "text": NAN_TEXT}),
            *messages[half // 2 : half],
        ]
    )
    wanted = {
        (b"text-not-encodable", b"raises", RAISING_ITEM.encode()),
        (b"text-not-encodable", b"nan", NAN_ITEM.encode()),
        (b"encoder-failed", b"nan", None),
    }
    eventually(lambda: letters(stream) >= wanted, what=lambda: f"{letters(stream)}")
    stream.drain()
    assert letters(stream) == wanted
    assert not [record for record in stream.updates() if record.key == b"nan"]
    worker.wait_counts("users_failed", 1)
    # New events push the poison out of the window, and with it out of the vector.
    healing = [
        event_message(view(user, "item-1", number))
        for user in ("nan", "raises")
        for number in range(int(str(SMALL_AND_QUICK["window_max_events"])))
    ]
    stream.send([*messages[half:], *healing])
    stream.verify()
    published = stream.updates() + stream.client.read(stream.settings.item_vectors_topic)
    assert all(map(is_finite, published))
    assert {record.key for record in published} >= {b"nan", b"raises", b"item-1"}


def view(user: str, item: str | None, number: int) -> dict[str, object]:
    """Return an event; the one with number -1 is the oldest."""
    return {
        "event_id": f"{user}-{number}",
        "user_id": user,
        "type": "view",
        "time_ms": BASE_MS + number,
    } | ({} if item is None else {"item_id": item})


def letters(stream: Stream) -> set[tuple[bytes, bytes | None, bytes | None]]:
    """Return reason, key and value of all dead letters."""
    found = stream.client.read(stream.settings.dead_letters_topic)
    return {(letter.headers["reason"], letter.key, letter.value) for letter in found}


def is_finite(record: Record) -> bool:
    """Tell whether an update or an item vector holds numbers only; NaN is null in JSON."""
    if record.value is None:
        return True
    vector = json.loads(record.value)["vector"]
    return all(number is not None and math.isfinite(number) for number in vector)
