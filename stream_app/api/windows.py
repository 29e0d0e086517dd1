"""A window as it would be without an event or before one, and vectors compared. Pure."""

from __future__ import annotations

import msgspec
import numpy as np

from encoders.interface import Float32
from state.event import WINDOW_TYPES
from state.window import Window


def without(window: Window, at: int) -> Window:
    """Return the window with the event at a place left out; the all-time counts stay.

    >>> window = Window(event_ids=("a", "b"), types=bytes((0, 1)), times_ms=(1, 2),
    ...                 item_ids=("i", "j"))
    >>> without(window, 0).item_ids, without(window, 0).texts
    (('j',), ())
    """
    return msgspec.structs.replace(
        window,
        event_ids=window.event_ids[:at] + window.event_ids[at + 1 :],
        types=window.types[:at] + window.types[at + 1 :],
        times_ms=window.times_ms[:at] + window.times_ms[at + 1 :],
        item_ids=window.item_ids[:at] + window.item_ids[at + 1 :],
        texts=window.texts[:at] + window.texts[at + 1 :],
        session_ids=window.session_ids[:at] + window.session_ids[at + 1 :],
        dwell_ms=window.dwell_ms[:at] + window.dwell_ms[at + 1 :],
    )


def up_to(window: Window, count: int) -> Window:
    """Return the window of its first ``count`` events; those that come later are counted nowhere.

    >>> window = Window(event_ids=("a", "b"), types=bytes((0, 1)), times_ms=(1, 2),
    ...                 item_ids=("i", "j"), counts=(5, 1, 0, 0, 0))
    >>> up_to(window, 1).event_ids, up_to(window, 1).counts
    (('a',), (5, 0, 0, 0, 0))
    """
    later = np.bincount(
        np.frombuffer(window.types[count:], np.uint8), minlength=len(window.counts)
    ).tolist()
    return msgspec.structs.replace(
        window,
        event_ids=window.event_ids[:count],
        types=window.types[:count],
        times_ms=window.times_ms[:count],
        item_ids=window.item_ids[:count],
        texts=window.texts[:count],
        session_ids=window.session_ids[:count],
        dwell_ms=window.dwell_ms[:count],
        counts=tuple(
            max(0, total - gone) for total, gone in zip(window.counts, later, strict=False)
        ),
    )


def counts_by_type(window: Window) -> dict[str, int]:
    """Return how many events of each type there ever were, of those there were any."""
    named = zip(WINDOW_TYPES, window.counts, strict=False)
    return {kind.value: count for kind, count in named if count}


def cosine(one: Float32, other: Float32) -> float:
    """Return the cosine of two vectors [D], 0 where one of them is all zero."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    if lengths == 0.0:
        return 0.0
    return max(-1.0, min(1.0, float(left @ right) / lengths))


def turn(one: Float32, other: Float32) -> float:
    """Return how far one vector is from another: 1 - cos; 0 where both are all zero.

    >>> turn(np.float32([1, 0]), np.float32([0, 1])), turn(np.float32([0]), np.float32([0]))
    (1.0, 0.0)
    """
    if not one.any() and not other.any():
        return 0.0
    if np.array_equal(one, other):
        return 0.0  # and not the rounding error of the cosine
    return 1.0 - cosine(one, other)


def shares(parts: list[float]) -> list[float]:
    """Return each part's share in the sum, all 0 where there is none."""
    total = sum(parts)
    return [part / total if total > 0.0 else 0.0 for part in parts]
