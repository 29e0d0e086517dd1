"""Where a user's current session starts."""

from __future__ import annotations

import numpy as np

from encoders.interface import Int64


def session_starts(times_ms: Int64, users: Int64, offsets: Int64, gap_ms: int) -> Int64:
    """Return [L] per event the index of the first event of its user's current session.

    A gap of more than ``gap_ms`` starts a new session. ``users`` is [L] the index of each event's
    user, ``offsets`` [B + 1] as in ``WindowBatch``.
    """
    first = offsets[:-1]
    starts = first.copy()
    breaks = np.flatnonzero(np.diff(times_ms) > gap_ms) + 1
    breaks = breaks[breaks > first[users[breaks]]]
    starts[users[breaks]] = breaks  # ascending, so the latest break of a user stays
    of_events: Int64 = starts[users]
    return of_events
