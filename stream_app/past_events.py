"""Events that were recorded, as a training and an evaluation take them: as the worker would."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from encoders.interface import UInt64
from state.event import Event, EventLimits, EventType, InvalidEvent, decode
from stream_app import record_files
from stream_app.errors import FixData

NO_TIMESTAMP_MS = 2**62
"""A file has no record timestamps: an event without a time of its own is told by this one, and
nothing lies too far in the future of it."""


@dataclass
class PastEvents:
    """Events as they come, without doubles and without what users did before a ``forget``."""

    by_user: dict[str, dict[str, tuple[Event, float]]] = field(default_factory=dict)

    def add(self, event: Event, value: float) -> None:
        """Take one more event; ``value`` is a number that comes with it, not a number if none."""
        if event.type is EventType.FORGET:
            self.by_user.pop(event.user_id, None)
        else:
            held = self.by_user.setdefault(event.user_id, {})
            held.setdefault(event.event_id, (event, value))

    def pairs(self, *, by_id: bool = False) -> list[tuple[Event, float]]:
        """Events and their numbers, as they came or in the order of their users' and own ids."""
        users = sorted(self.by_user) if by_id else list(self.by_user)
        held = (self.by_user[user] for user in users)
        return [
            pair
            for events in held
            for _, pair in (sorted(events.items()) if by_id else events.items())
        ]


def read(path: Path, limits: EventLimits, value_field: str = "") -> PastEvents:
    """Return the events of a JSON Lines file, each with the number in its ``value_field``.

    Raises:
        FixData: a line is no event, or an event has no time; the message names file and event.
    """
    found = PastEvents()
    for number, (key, value) in enumerate(record_files.events(path), start=1):
        try:
            event = decode(key, value, NO_TIMESTAMP_MS, limits)
        except InvalidEvent as error:
            raise FixData(f"{path}, event {number}: {error}") from None
        if event.time_ms == NO_TIMESTAMP_MS:
            raise FixData(f"{path}, event {number}: no time_ms, by which events are put in order")
        found.add(event, number_in(value, value_field))
    return found


def number_in(value: bytes | None, name: str) -> float:
    """Return the number in a record's field; not a number where there is none."""
    if not name or value is None:
        return float("nan")
    found = msgspec.json.decode(value).get(name)
    return float(found) if isinstance(found, int | float) else float("nan")


def tie_keys(events: Sequence[Event]) -> UInt64:
    """Return [E] a hash of each event's user and id, for ``Interactions.ties``."""
    named = (f"{len(event.user_id)} {event.user_id}{event.event_id}" for event in events)
    digests = b"".join(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for name in named
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
