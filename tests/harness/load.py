"""Seeded events, with everything in them that makes a stream awkward."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from tests.harness.client import Message

BASE_MS = 1_700_000_000_000
"""The time of the first event: fixed, so that a seed says everything."""
DAY_MS = 86_400_000

POISON_KEY = b"poison-"
_POISON = (
    None,
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"event_id": "x", "type": "view", "item_id": "i"}',
    b'{"event_id": "x", "user_id": "somebody else", "type": "view", "item_id": "i"}',
    b'{"event_id": "x", "user_id": "poison", "type": "gaze"}',
)
_ADJECTIVES = ("red", "blue", "green", "light", "warm", "quiet", "small", "fast")
_NOUNS = ("shoes", "boots", "tent", "lamp", "novel", "camera", "kettle", "guitar")


@dataclass(frozen=True)
class Load:
    """How many events, and which share of them is unusual."""

    events: int = 4_000
    users: int = 60
    items: int = 40
    seed: int = 7
    doubled: float = 0.03
    """Produced twice: the second copy comes up to 40 events later."""
    late: float = 0.05
    """A few minutes behind: takes its place by event time, or is late if the window moved on."""
    hopeless: float = 0.01
    """Forty days behind: outside every window that holds anything newer."""
    forget: float = 0.003
    leaving: int = 3
    """Users whose last event is a forget."""
    unknown: float = 0.02
    """About an item that no catalogue has."""
    poison: float = 0.0
    """No event at all. The keys begin with :data:`POISON_KEY`."""

    def catalogue(self) -> list[Message]:
        """Return one items record per item."""
        return [item_message(f"item-{n}", item_text(n)) for n in range(self.items)]

    def messages(self) -> list[Message]:
        """Return the events records, oldest first but for the late and doubled ones."""
        random_ = random.Random(self.seed)
        out: list[dict[str, Any]] = []
        again: list[tuple[int, dict[str, Any]]] = []
        while len(out) < self.events:
            if again and again[0][0] <= len(out):
                out.append(again.pop(0)[1])
                continue
            event = self._event(random_, len(out))
            out.append(event)
            if random_.random() < self.doubled:
                again.append((len(out) + random_.randrange(40), event))
        out += [self._leaving(number) for number in range(self.leaving)]
        return [self._poisoned(number, event) for number, event in enumerate(out)]

    def _poisoned(self, number: int, event: dict[str, Any]) -> Message:
        luck = random.Random(f"{self.seed}-{number}")
        if luck.random() >= self.poison:
            return event_message(event)
        return Message(POISON_KEY + b"%d" % number, luck.choice(_POISON))

    def _leaving(self, number: int) -> dict[str, Any]:
        return {
            "event_id": f"e{self.seed}-leaving-{number}",
            "user_id": f"user-{number}",
            "type": "forget",
        }

    def _event(self, random_: random.Random, number: int) -> dict[str, Any]:
        event: dict[str, Any] = {
            "event_id": f"e{self.seed}-{number}",
            "user_id": f"user-{random_.randrange(self.users)}",
            "time_ms": BASE_MS + number * 1_000 + random_.randrange(1_000),
        }
        luck = random_.random()
        if luck < self.hopeless:
            event["time_ms"] -= 40 * DAY_MS
        elif luck < self.hopeless + self.late:
            event["time_ms"] -= random_.randrange(1_000_000)
        if random_.random() < self.forget:
            return event | {"type": "forget"}
        return event | self._content(random_)

    def _content(self, random_: random.Random) -> dict[str, Any]:
        kind = random_.choice(("view", "view", "view", "click", "purchase", "search", "review"))
        content: dict[str, Any] = {"type": kind}
        if kind == "search":
            return content | {"text": item_text(random_.randrange(64)), "session_id": "s1"}
        number = random_.randrange(self.items)
        if random_.random() < self.unknown:
            number += self.items
        content["item_id"] = f"item-{number}"
        if kind == "review":
            content["text"] = f"I like the {item_text(random_.randrange(64))}"
        if kind == "view":
            content["dwell_ms"] = random_.randrange(60_000)
        return content


def item_text(number: int) -> str:
    """Return a short text; numbers under 64 give different ones."""
    return f"{_ADJECTIVES[number % 8]} {_NOUNS[number // 8 % 8]}"


def item_message(item_id: str, text: str) -> Message:
    """Return a record of the items topic."""
    value = json.dumps({"item_id": item_id, "text": text}).encode()
    return Message(item_id.encode(), value)


def event_message(event: dict[str, Any]) -> Message:
    """Return ``event`` as a record of the events topic, keyed by its user."""
    return Message(str(event["user_id"]).encode(), json.dumps(event).encode())
