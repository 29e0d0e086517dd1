"""Everything that is no event, in one batch with good events around it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.load import BASE_MS, event_message
from tests.harness.worker import Worker

pytestmark = pytest.mark.broker

NOW_MS = 1_790_000_000_000
"""The records' timestamps, so that the future is a matter of the data and not of the day."""


class Poison(NamedTuple):
    """A record that is no event, and what its dead letter must say."""

    message: Message
    reason: str
    detail: str
    """A part of it: the field, the value or the limit."""


def act(**changed: Any) -> dict[str, Any]:
    """Return a good event, changed; None takes a field out."""
    event = {
        "event_id": "p",
        "user_id": "bob",
        "type": "view",
        "item_id": "i1",
        "time_ms": BASE_MS,
    } | changed
    return {name: value for name, value in event.items() if value is not None}


def bad(reason: str, detail: str, value: Any, key: bytes | None = b"bob") -> Poison:
    """Return a poison record of raw bytes, None, or an object to be written as JSON."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Poison(Message(key, raw, 0, NOW_MS), reason, detail)


POISON = (
    bad("not-json", "", b"\xff\xfe{not json"),
    bad("not-json", "", b'{"event_id": "p", "user_id": "bob"'),
    bad("not-json", "", b""),
    bad("not-an-object", "", [1, 2, 3]),
    bad("not-an-object", "", b'"view"'),
    bad("not-an-object", "", b"[" * 900 + b"]" * 900),
    bad("invalid-field", "event_id", act(event_id=None)),
    bad("invalid-field", "type", act(type=None)),
    bad("invalid-field", "item_id", act(item_id=None)),
    bad("invalid-field", "text", act(type="search", item_id=None)),
    bad("invalid-field", "user_id", act(user_id=7)),
    bad("invalid-field", "time_ms", act(time_ms="yesterday")),
    bad("invalid-field", "dwell_ms", act(dwell_ms=-5)),
    bad("absurd-time", "time_ms", act(time_ms=10**30)),
    bad("too-large", "2048", act(text="x" * 3000)),
    bad("too-large", "event_id", act(event_id="x" * 300)),
    bad("too-large", "text", act(text="x" * 500)),
    bad("key-mismatch", "key", act(), key=b"alice"),
    bad("key-mismatch", "key", act(), key=None),
    bad("unknown-type", "teleport", act(type="teleport")),
    bad("absurd-time", "time_ms", act(time_ms=NOW_MS + 10 * 86_400_000)),
    bad("absurd-time", "time_ms", act(time_ms=-1)),
    bad("empty", "value", None),
)


def batch() -> list[Message]:
    """Return all poison, a good event of alice before, between and after."""
    messages = []
    for number, poison in enumerate(POISON):
        messages += [_good(number), poison.message]
    return [*messages, _good(len(POISON))]


def _good(number: int) -> Message:
    event = act(event_id=f"good-{number}", user_id="alice", time_ms=BASE_MS + number)
    message = event_message(event)
    return Message(message.key, message.value, 0, NOW_MS)


def test_each_kind_is_told_apart_and_harms_nobody(make_stream: StreamMaker) -> None:
    """Reason, source position and bytes as they came, up to the cap; the good events all count."""
    most_bytes = 2048
    stream = make_stream(
        partitions=1, max_event_bytes=most_bytes, max_text_chars=400, window_max_events=50
    )
    messages = batch()
    stream.send(messages)
    stream.poison = {(0, offset) for offset in range(1, len(messages), 2)}
    worker: Worker = stream.worker()
    reference = stream.verify()
    letters = stream.client.read(stream.settings.dead_letters_topic)
    found = sorted(letters, key=lambda letter: int(letter.headers["source_offset"]))
    assert [letter.headers["reason"].decode() for letter in found] == [p.reason for p in POISON]
    for at, (letter, poison) in enumerate(zip(found, POISON, strict=True)):
        key, value = poison.message.key, poison.message.value
        cut = value is not None and len(value) > most_bytes
        assert (letter.key, letter.value) == (key, value[:most_bytes] if cut else value)
        told = b"%d" % len(value) if cut else None
        assert letter.headers.get("truncated_from") == told
        assert poison.detail in letter.headers["detail"].decode()
        assert letter.headers["source_topic"].decode() == stream.settings.events_topic
        assert letter.headers["source_partition"] == b"0"
        assert letter.headers["source_offset"] == b"%d" % (2 * at + 1)
    assert len(reference.users["alice"].held) == len(POISON) + 1
    counts = worker.status()["counts"]
    assert counts["dead_letters"] == len(POISON)
    assert counts["folded"] == len(POISON) + 1
