"""Events of a micro-batch in rectangles for the reader, so that no user's bits depend on others.

Legend: B users, K events, L places of a rectangle. A product of another size may use another
kernel, which adds in another order. So a user's events go into a rectangle whose width is decided
by their own number alone, and every rectangle has the same number of users, filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from encoders.event_weights import WeightedEvents
from encoders.interface import Int64
from encoders.sessions import session_starts

BLOCK_USERS = 16
"""16 users of 50 events are 800 rows: enough for a product's full speed, and a lone user waits for
4 ms of a CPU's work, not for 15."""
_WIDTHS = (4, 8, 16, 32)
"""Widths below the longest, each at most twice the events that are in it."""


@dataclass(frozen=True)
class Rectangle:
    """Users with about as many events each."""

    users: Int64
    """[b] index in the micro-batch."""
    events: Int64
    """[b, L] index of the event, oldest first; 0 behind the last."""
    last: Int64
    """[b] place of the newest event."""


def rectangles(
    events: WeightedEvents, positions: int, session_gap_ms: int | None
) -> Iterator[Rectangle]:
    """Yield the last ``positions`` events of every user that has any which count.

    With ``session_gap_ms`` only those of the current session.
    """
    kept = np.flatnonzero(events.counts)
    users = events.users[kept]
    counts = np.bincount(users, minlength=len(events.offsets) - 1)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    first, end = offsets[:-1].copy(), offsets[1:]
    if session_gap_ms is not None and len(kept):
        starts = session_starts(events.times_ms[kept], users, offsets, session_gap_ms)
        first[counts > 0] = starts[end[counts > 0] - 1]
    first = np.maximum(first, end - positions)
    lengths = end - first
    widths = np.array([*(width for width in _WIDTHS if width < positions), positions])
    of_user = widths[np.searchsorted(widths, lengths)]
    for width in widths:
        chosen = np.flatnonzero((of_user == width) & (lengths > 0))
        if len(chosen):
            places = np.arange(width)[None]
            inside = places < lengths[chosen, None]
            index = np.where(inside, first[chosen, None] + places, 0)
            yield Rectangle(chosen, np.where(inside, kept[index], 0), lengths[chosen] - 1)
