"""Users that come, act for a while and fall silent: an endless, seeded stream of their events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

ITEMS = 2_000
EVENTS_PER_USER = 20
"""On average, geometrically distributed."""
_RETURN = 0.02
"""Of the users that come: somebody who was here before, perhaps expired meanwhile."""
_SEARCH = 0.005
"""Of the events: a search with words nobody used before, so the text cache has to let go, too."""
_TYPES = ("view", "view", "view", "click", "purchase")
_WORDS = [
    "tent",
    "lamp",
    "novel",
    "camera",
    "kettle",
    "guitar",
    "boots",
    "puzzle",
    "mug",
    "scarf",
    "bike",
    "chair",
]


@dataclass
class People:
    """``active`` users at a time; each event is of one of them, and whoever is done is replaced."""

    active: int
    seed: int = 3

    def events(self, number: int = 0) -> Iterator[dict[str, object]]:
        """Yield events without their time, their ids counted from ``number``."""
        random_ = random.Random(self.seed + number)
        came = number
        here: list[list[int]] = []
        while True:
            if len(here) < self.active:
                here.append([came, self._length(random_)])
                came += 1
                at = len(here) - 1
            else:
                at = random_.randrange(self.active)
            user, left = here[at]
            yield self._event(random_, number, user)
            number += 1
            if left > 1:
                here[at][1] = left - 1
            elif random_.random() < _RETURN:
                here[at] = [random_.randrange(came), self._length(random_)]
            else:
                here[at] = [came, self._length(random_)]
                came += 1

    @staticmethod
    def _length(random_: random.Random) -> int:
        return 1 + int(random_.expovariate(1 / (EVENTS_PER_USER - 1)))

    @staticmethod
    def _event(random_: random.Random, number: int, user: int) -> dict[str, object]:
        event: dict[str, object] = {"event_id": f"e{number}", "user_id": f"u{user}"}
        if random_.random() < _SEARCH:
            words = " ".join(random_.sample(_WORDS, 3))
            return event | {"type": "search", "text": f"{words} {number}"}
        item = min(int(random_.paretovariate(0.7)), ITEMS) - 1
        kind = random_.choice(_TYPES)
        return event | {"type": kind, "item_id": f"i{item}", "session_id": f"s{user}"}


def catalogue() -> Iterator[tuple[bytes, bytes]]:
    """Yield the items' records."""
    for number in range(ITEMS):
        words = (_WORDS[number % 12], _WORDS[number // 12 % 12], _WORDS[number // 144 % 12])
        item = {"item_id": f"i{number}", "text": f"Number {number}: {' and '.join(words)}"}
        yield f"i{number}".encode(), msgspec.json.encode(item)
