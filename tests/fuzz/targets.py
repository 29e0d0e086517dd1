"""What takes bytes that others wrote, what it may raise, and inputs to begin from.

Hypothesis looks for inputs of its own in make test; a million are sound ones that :func:`damaged`
changed, which is faster by a hundred and goes deeper than bytes drawn by chance.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from state import codec
from state.event import Event, EventType, InvalidEvent, decode
from state.masking import mask
from state.pseudonyms import Pseudonyms
from state.window import Window, WindowPolicy, fold
from stream_app import item_record, updates
from stream_app.dead_letters import DeadLetter, masked
from stream_app.errors import FixData
from stream_app.settings import Settings

LIMITS = Settings(mask_texts="all").event_limits()
_PSEUDONYMS = Pseudonyms("0123456789abcdef" * 2)
_PSEUDONYMOUS = msgspec.structs.replace(LIMITS, pseudonyms=_PSEUDONYMS)
_PIECES = (b"{", b"}", b"[", b"]", b'"', b"\\", b"\x00", b"\xff", b"\xed\xa0\x80", b"null", b"NaN",
           b"1e999", b"-0", b"9" * 40, b"\\ud800", b"\xc1\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
           b"@", b"+49 30 1234567", b"4111 1111 1111 1111", b"(at)", b"\xc3\x01", b"user_id",
           b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")  # fmt: skip
"""What decoders stumble over: ends, lengths that promise more than there is, half characters."""


class Target(NamedTuple):
    """One decoder: what it does with bytes, what it may raise, and sound inputs for it."""

    take: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    sound: Sequence[bytes]


def _event(value: bytes) -> object:
    """The way of a record: decoded, or refused and buried."""
    try:
        event = decode(b"u", value, 1_700_000_000_000, LIMITS)
    except InvalidEvent as error:
        DeadLetter(b"u", masked(value), error.reason, error.detail, "t", 0, 1).record()
        raise
    return fold(None, event, 1, WindowPolicy())


def _pseudonymous_event(value: bytes) -> object:
    """Nothing of the id may come through, and one id always has the same pseudonym."""
    event = decode(b"u", value, 1_700_000_000_000, _PSEUDONYMOUS)
    assert event.user_id == _PSEUDONYMS.of("u")
    return event


def _item(value: bytes) -> object:
    """What the catalogue stores of it must be writable."""
    item = item_record.decode(b"i", value)
    media = item.media()
    assert media is None or np.isfinite(media).all()
    return item.text.encode()


def _window(value: bytes) -> object:
    """What is read must be writable again, and the short cuts must say the same."""
    window = codec.decode(value)
    assert codec.decode(codec.encode(window)) == window
    return codec.last_seen(value)


def _text(value: bytes) -> object:
    text = value.decode("utf-8", "surrogateescape")
    once = mask(text)
    assert mask(once) == once
    return once


def _an_event(random_: random.Random) -> bytes:
    kind = random_.choice(list(EventType))
    event: dict[str, Any] = {"event_id": "e", "user_id": "u", "type": kind, "item_id": "i",
                             "text": "a tent, a@b.example, +49 30 1234567"}  # fmt: skip
    if random_.random() < 0.5:
        event |= {"time_ms": 5, "dwell_ms": 7, "session_id": "s", "more": [1, {"a": None}]}
    return json.dumps(event).encode()


def _an_item(random_: random.Random) -> bytes:
    item: dict[str, Any] = {"item_id": "i", "text": "a tent for two" * random_.randrange(3)}
    if random_.random() < 0.5:
        item |= {"media_vector": [random_.uniform(-1, 1) for _ in range(4)], "genres": ["camp"]}
    return json.dumps(item).encode()


def _a_window(random_: random.Random) -> bytes:
    window: Window | None = None
    for number in range(random_.randrange(1, 6)):
        kind = random_.choice(list(EventType)[:5])
        event = Event(f"e{number}", "u", kind, "i", "text" * (number % 2), number, "s", 3)
        window, _ = fold(window, event, number, WindowPolicy(max_events=4))
    assert window is not None
    return codec.encode(window)


def _an_update(random_: random.Random) -> bytes:
    encoder = updates.UpdateEncoder(
        random_.choice(("json", "avro")), "m" * 16, "t", ["word", "document"], [0.5, 0.5],
        random_.choice(("float32", "float16")),
    )  # fmt: skip
    vector = np.linspace(-1, 1, 4, dtype=np.float32)
    several = np.stack([vector, vector])
    return encoder.encode(
        "u", vector, several if random_.random() < 0.5 else None, 5, 1, 3, 2,
        several if random_.random() < 0.5 else None,
    )  # fmt: skip


def _many(make: Callable[[random.Random], bytes]) -> list[bytes]:
    random_ = random.Random(6)
    return sorted({make(random_) for _ in range(40)})


TARGETS = {
    "event": Target(_event, (InvalidEvent,), _many(_an_event)),
    "pseudonymous event": Target(_pseudonymous_event, (InvalidEvent,), _many(_an_event)),
    "item": Target(_item, item_record.REFUSALS, _many(_an_item)),
    "window": Target(_window, (codec.UnreadableWindow,), _many(_a_window)),
    "update": Target(updates.decode, (FixData,), _many(_an_update)),
    "text": Target(_text, (), [b"mail a@b.example or ring +49 30 1234567", "\u0665é４".encode()]),
}


def damaged(random_: random.Random, value: bytes) -> bytes:
    """Return the value with up to four changes: a bit, a piece, a cut, a part twice."""
    data = bytearray(value)
    for _ in range(random_.randrange(5)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << random_.randrange(8)
            case 1:
                data[at:at] = random_.choice(_PIECES)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + random_.randrange(8)]
            case _:
                data[at:at] = data[at : at + random_.randrange(64)]
    return bytes(data)


def refused(target: Target, value: bytes) -> bool:
    """Give a target one input; tell whether it refused it. Whatever else it raises gets out."""
    try:
        target.take(value)
    except target.refusals:
        return True
    return False
