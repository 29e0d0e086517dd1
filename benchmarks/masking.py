"""What masking costs: decode and fold with and without it: python -m benchmarks.masking.

A third of the events are searches, a third reviews and a third views; one text in fifty holds an
address or a number. Prints JSON: nanoseconds per event, and the ratio.
"""

from __future__ import annotations

import json
import platform
import random
import time

from state.event import WRITTEN_TYPES, Event, EventLimits, decode
from state.window import Window, WindowPolicy, fold

_EVENTS = 30_000
_USERS = 1_000
_ROUNDS = 7
_WORDS = (
    "light", "tent", "for", "two", "good", "lamp", "but", "slow", "seller", "20", "size", "never",
    "again", "nice", "color", "the", "a", "very", "and", "it", "came", "in", "time", "would", "buy",
)  # fmt: skip
_FINDS = ("anna@example.org", "+49 30 1234567", "4111 1111 1111 1111")


def records() -> list[tuple[bytes, bytes]]:
    """Return keys and values, the same in each run."""
    random_ = random.Random(6)
    found = []
    for number in range(_EVENTS):
        kind = ("search", "review", "view")[number % 3]
        words = random_.choices(_WORDS, k=6 if kind == "search" else 40)
        if random_.random() < 0.02:
            words.append(random_.choice(_FINDS))
        user = f"user-{random_.randrange(_USERS)}"
        event = {"event_id": f"e{number}", "user_id": user, "type": kind, "item_id": "i1"}
        event |= {"text": " ".join(words)} if kind != "view" else {}
        found.append((user.encode(), json.dumps(event).encode()))
    return found


def decoded_s(given: list[tuple[bytes, bytes]], limits: EventLimits) -> tuple[float, list[Event]]:
    """Return the seconds that decoding takes, and the events."""
    start = time.perf_counter()
    events = [decode(key, value, number, limits) for number, (key, value) in enumerate(given)]
    return time.perf_counter() - start, events


def folded_s(events: list[Event]) -> float:
    """Return the seconds that the fold takes."""
    windows: dict[str, Window | None] = {}
    policy = WindowPolicy()
    start = time.perf_counter()
    for offset, event in enumerate(events):
        windows[event.user_id], _ = fold(windows.get(event.user_id), event, offset, policy)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns, so that what else runs on the machine meets both."""
    given = records()
    plain, masked, fold_ = [], [], []
    for _ in range(_ROUNDS):
        plain.append(decoded_s(given, EventLimits())[0])
        seconds, events = decoded_s(given, EventLimits(masked_types=WRITTEN_TYPES))
        masked.append(seconds)
        fold_.append(folded_s(events))
    decode_ns, masked_ns, fold_ns = (min(each) / _EVENTS * 1e9 for each in (plain, masked, fold_))
    print(
        json.dumps(
            {
                "decode_ns": round(decode_ns),
                "decode_and_mask_ns": round(masked_ns),
                "fold_ns": round(fold_ns),
                "masking_of_decode_and_fold": round(
                    (masked_ns - decode_ns) / (decode_ns + fold_ns), 3
                ),
                "python": platform.python_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
