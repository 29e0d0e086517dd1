"""Decoding: what is an event, and what is a dead letter with which reason."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.event import Event, EventLimits, EventType, InvalidEvent, decode

LIMITS = EventLimits(max_bytes=2000, max_id_chars=16, max_text_chars=100, max_future_ms=1000)
NOW_MS = 1_700_000_000_000
GOOD = {"event_id": "e", "user_id": "u", "type": "view", "item_id": "i", "time_ms": NOW_MS}


def decoded(key: bytes | None = b"u", **fields: object) -> Event:
    present = {name: value for name, value in (GOOD | fields).items() if value is not ...}
    return decode(key, json.dumps(present).encode(), NOW_MS, LIMITS)


def test_every_field_arrives() -> None:
    event = decoded(text="t", session_id="s", dwell_ms=5, type="review", unknown={"a": [1]})
    assert event == Event("e", "u", EventType.REVIEW, "i", "t", NOW_MS, "s", 5)


def test_without_a_time_the_records_timestamp_counts() -> None:
    assert decoded(time_ms=...).time_ms == NOW_MS


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"event_id": ...}, "invalid-field", "event_id"),
        ({"user_id": ...}, "invalid-field", "user_id"),
        ({"type": ...}, "invalid-field", "type"),
        ({"event_id": 7}, "invalid-field", r"\$\.event_id"),
        ({"event_id": ""}, "invalid-field", "event_id"),
        ({"time_ms": "noon"}, "invalid-field", r"\$\.time_ms"),
        ({"time_ms": 1.5}, "invalid-field", r"\$\.time_ms"),
        ({"dwell_ms": -1}, "invalid-field", "dwell_ms"),
        ({"dwell_ms": 2**31}, "invalid-field", "dwell_ms"),
        ({"item_id": ...}, "invalid-field", "item_id or a text"),
        ({"type": "search"}, "invalid-field", "needs a text"),
        ({"type": "review", "text": ""}, "invalid-field", "needs a text"),
        ({"user_id": "u\x00"}, "invalid-field", "NUL"),
        ({"type": "stare"}, "unknown-type", "stare.*view, click"),
        ({"item_id": "i" * 300}, "too-large", "item_id"),
        ({"text": "t" * 101}, "too-large", "text has 101"),
        ({"text": "t" * 3000}, "too-large", "at most 2000"),
        ({"time_ms": NOW_MS + 1001}, "absurd-time", str(NOW_MS + 1001)),
        ({"time_ms": -1}, "absurd-time", "-1"),
        ({"time_ms": 10**25}, "absurd-time", "10"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], reason: str, says: str) -> None:
    key = str(fields.get("user_id", "u")).encode()
    with pytest.raises(InvalidEvent, match=says) as caught:
        decoded(key, **fields)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"\xff\xfe", "not-json"),
        (b'{"event_id": 7, "user', "not-json"),
        (b"[1]", "not-an-object"),
        (b'"view"', "not-an-object"),
        (b"null", "not-an-object"),
        (b"[" * 1900, "not-json"),
        (b'{"event_id":"\\ud800","user_id":"\\ud800","type":"view","item_id":"i"}', "not-json"),
    ],
)
def test_what_is_no_object_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode(b"u", value, NOW_MS, LIMITS)
    assert caught.value.reason == reason


@pytest.mark.parametrize("key", [None, b"", b"other"])
def test_the_key_must_be_the_user(key: bytes | None) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decoded(key)
    assert caught.value.reason == "key-mismatch"


def test_a_forget_needs_nothing_but_the_user() -> None:
    assert decoded(type="forget", item_id=...).type is EventType.FORGET


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_else(value: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode(b"u", value, NOW_MS, LIMITS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "text", "dwell_ms", "session_id"]), json_values))
def test_no_json_whatever_raises_anything_else(fields: dict[str, object]) -> None:
    with contextlib.suppress(InvalidEvent):
        event = decode(b"u", json.dumps(GOOD | fields).encode(), NOW_MS, LIMITS)
        assert event.user_id == "u"
