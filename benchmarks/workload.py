"""The events everybody plays: seeded, so that a size and a seed say everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka.partitioner import murmur2

BASE_MS = 1_700_000_000_000
"""Time of the first event: fixed, for the windows to be the same in every run."""
STEP_MS = 10
LATE_MS = 300_000
"""How far a late event is behind at most: inside the window for some users, behind it for others"""

_TYPES = ("view", "click", "purchase")
_TYPE_SHARES = (0.7, 0.25, 0.05)
_DOUBLED = 0.01
_LATE = 0.02
_SKEW_OFFSET = 200
_SKEW_POWER = 0.75
"""Of the n-th user (n + 200)^-0.75: with 20,000 users the busiest has 0.06 % of all events and the
median user 18 of 600,000. A steeper law would let a few users coalesce and flatter whoever
encodes once per batch and user."""

_KINDS = ("thriller", "comedy", "drama", "documentary", "romance", "western", "mystery", "musical")
_PLACES = ("a lighthouse", "the desert", "old Vienna", "a space station", "the north", "a circus")
_MOODS = ("quiet", "fast", "dark", "warm", "absurd", "tender", "loud", "slow", "bitter", "bright")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of the events topic, with the partition its key hashes to."""

    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Workload:
    """How many of what."""

    events: int
    users: int
    items: int
    partitions: int = 8
    seed: int = 11

    def item_texts(self) -> dict[str, str]:
        """Return the catalogue: item id to a text of about twelve words, all different."""
        texts = {}
        for number in range(self.items):
            kind = _KINDS[number % len(_KINDS)]
            mood = _MOODS[number // 8 % len(_MOODS)]
            place = _PLACES[number // 80 % len(_PLACES)]
            texts[item_id(number)] = f"Tale {number}: a {mood} {kind} set in {place}, for everybody"
        return texts

    def records(self) -> Iterator[Record]:
        """Yield the records in the order they are published: 1 % twice, 2 % late."""
        random = np.random.default_rng(self.seed)
        users = random.choice(self.users, self.events, p=skewed(self.users))
        items = random.choice(self.items, self.events, p=skewed(self.items))
        types = random.choice(len(_TYPES), self.events, p=_TYPE_SHARES)
        behind = np.where(
            random.random(self.events) < _LATE, random.integers(0, LATE_MS, self.events), 0
        )
        times = BASE_MS + LATE_MS + np.arange(self.events) * STEP_MS - behind
        doubled = random.random(self.events) < _DOUBLED
        places = user_partitions(self.users, self.partitions)
        before: Record | None = None
        columns = (users.tolist(), items.tolist(), types.tolist(), times.tolist(), doubled.tolist())
        for number, (user, item, kind, time_ms, again) in enumerate(zip(*columns, strict=True)):
            if again and before is not None:
                yield before
                continue
            before = Record(
                places[user], user_id(user).encode(), event(number, user, item, kind, time_ms)
            )
            yield before


def event(number: int, user: int, item: int, kind: int, time_ms: int) -> bytes:
    """Return an event's JSON, about 130 bytes."""
    return (
        b'{"event_id":"e%d","user_id":"u%d","type":"%b","item_id":"i%d","time_ms":%d,'
        b'"session_id":"s%d","dwell_ms":%d}'
        % (number, user, _TYPES[kind].encode(), item, time_ms, time_ms // 3_600_000, item * 7)
    )


def user_id(number: int) -> str:
    """Return a user's id."""
    return f"u{number}"


def item_id(number: int) -> str:
    """Return an item's id."""
    return f"i{number}"


def item_number(identifier: str) -> int:
    """Return the number in an item's id: its row in the item vectors."""
    return int(identifier[1:])


def skewed(count: int) -> npt.NDArray[np.float64]:
    """Return the share of each of ``count`` users or items."""
    weights = (np.arange(count) + _SKEW_OFFSET) ** -_SKEW_POWER
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def user_partitions(users: int, partitions: int) -> list[int]:
    """Return each user's partition, as Kafka's default partitioner puts them."""
    return [
        (murmur2(user_id(number).encode()) & 0x7FFFFFFF) % partitions for number in range(users)
    ]
