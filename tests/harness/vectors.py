"""The vectors that updates must carry, from the stub encoder called right here in the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

import encoders
from encoders.interface import WindowBatch
from state.event import TYPE_CODES, EventType
from stream_app.settings import Settings
from tests.harness.reference import Reference


def of_users(
    reference: Reference, item_texts: Mapping[str, str], settings: Settings
) -> dict[str, list[float]]:
    """Return user -> vector of the user's reference window, values as the settings round them."""
    users = sorted(reference.users)
    events = [event for user in users for event in reference.users[user].held]
    texts = [_text(event, item_texts) for event in events]
    rows = {text: row for row, text in enumerate(sorted({text for text in texts if text}))}
    batch = WindowBatch(
        rows=np.array([rows.get(text, -1) for text in texts], np.int32),
        offsets=np.cumsum(
            [0, *(len(reference.users[user].held) for user in users)], dtype=np.int64
        ),
        times_ms=np.array([event["time_ms"] for event in events], np.int64),
        types=np.array([TYPE_CODES[EventType(event["type"])] for event in events], np.uint8),
        dwell_ms=np.array([_or(event.get("dwell_ms"), -1) for event in events], np.int32),
    )
    config = replace(settings.encoder_config(), slab_rows=max(1, len(rows)), cache_dir="")
    encoder = encoders.build(config)
    try:
        encoder.put_texts([(row, text) for text, row in rows.items()])
        rounded = encoder.encode(batch).vectors.astype(encoder.info.vectors)
        return dict(zip(users, rounded.tolist(), strict=True))
    finally:
        encoder.close()


def of_text(text: str, settings: Settings) -> list[float]:
    """Return the vector of a user whose window is one view with this text."""
    batch = WindowBatch(
        rows=np.zeros(1, np.int32),
        offsets=np.array([0, 1], np.int64),
        times_ms=np.zeros(1, np.int64),
        types=np.zeros(1, np.uint8),
        dwell_ms=np.full(1, -1, np.int32),
    )
    encoder = encoders.build(settings.encoder_config())
    encoder.put_texts([(0, text)])
    found: list[float] = encoder.encode(batch).vectors[0].tolist()
    encoder.close()
    return found


def of_item(text: str, settings: Settings) -> list[float]:
    """Return the vector of an item with this text."""
    encoder = encoders.build(settings.encoder_config())
    encoder.put_texts([(0, text)])
    found: list[float] = encoder.item_vectors(np.zeros(1, np.int32))[0].tolist()
    encoder.close()
    return found


def _text(event: Mapping[str, object], item_texts: Mapping[str, str]) -> str:
    """An event's own words say more than the title of the item they are about."""
    own = event.get("text") or item_texts.get(str(event.get("item_id")), "")
    return str(own)


def _or(value: int | None, absent: int) -> int:
    return absent if value is None else value
