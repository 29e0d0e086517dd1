"""How much each event of a window counts: recency by rank and by time, event type, session.

Legend: B users, L events of the batch, K events whose text is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.config import InterestConfig
from encoders.interface import Float32, Int64, WindowBatch
from encoders.sessions import session_starts
from state.event import TYPE_CODES, EventType

_MAX_RANK = 4_096
"""Ranks beyond share the last weight; windows hold 50 events by default."""
_STEPS = 1_024
"""Steps per half-life. Ages are rounded to a step and looked up, because exp2 of an array may
differ in its last bit between the vectorised body and the tail, that is, with the batch."""


@dataclass(frozen=True)
class WeightedEvents:
    """The events that have a text, with what each weighs."""

    batch: WindowBatch
    """Of these events only."""
    rows: npt.NDArray[np.int64]
    """[K] slab rows."""
    users: Int64
    """[K] index of the user in the batch."""
    offsets: Int64
    """[B + 1] as in ``WindowBatch``, over the K events."""
    window: Float32
    """[K] share of the event in its user's window: sums to 1 per user."""
    session: Float32 | None
    """[K] share in the user's current session, 0 before it; None when not asked for."""
    has_weight: npt.NDArray[np.bool_]
    """[B] whether any event of the user weighs anything."""
    times_ms: Int64
    """[K]"""
    types: npt.NDArray[np.uint8]
    """[K]"""
    counts: npt.NDArray[np.bool_]
    """[K] whether the event's type weighs anything: else nothing may read it."""


class EventWeigher:
    """Turns windows into event weights by the rules of an ``InterestConfig``.

    Everything is elementwise or summed per user in event order, in float64, so a user's weights
    do not depend on who else is in the batch.
    """

    def __init__(self, config: InterestConfig) -> None:
        self._by_rank = rank_table(config.rank_half_life_events)
        self._steps = np.array([2.0 ** (-step / _STEPS) for step in range(_STEPS)])
        self._time_half_life_ms = config.time_half_life_ms
        self._session_gap_ms = config.session_gap_ms
        self._by_type = np.ones(256)
        for kind, code in TYPE_CODES.items():
            self._by_type[code] = config.event_type_weights.get(kind.value, 1.0)
        self._types_matter = bool((self._by_type != 1.0).any())

    def weigh(
        self, batch: WindowBatch, known: npt.NDArray[np.bool_], *, with_session: bool
    ) -> WeightedEvents:
        """Return the weights of the events whose text is known.

        ``known`` is [slab_rows]: events of other rows, and of row -1, are left out as if they
        were not in the window.
        """
        events = _KnownEvents.of(batch, known)
        raw = self._by_rank[np.minimum(events.ranks(), _MAX_RANK - 1)]
        if self._types_matter:
            raw = raw * self._by_type[events.types]
        if self._time_half_life_ms:
            raw = raw * self._by_age(events)
        window, has_weight = _shares(raw, events)
        session = None
        if with_session:
            starts = session_starts(
                events.times_ms, events.users, events.offsets, self._session_gap_ms
            )
            in_session = np.arange(len(raw)) >= starts
            session, _ = _shares(np.where(in_session, raw, 0.0), events)
        return WeightedEvents(
            events.batch,
            events.rows,
            events.users,
            events.offsets,
            window,
            session,
            has_weight,
            events.times_ms,
            events.types,
            self._by_type[events.types] > 0.0,
        )

    def queries(self, events: WeightedEvents) -> Float32:
        """[K] share of the event among its user's searches, which are all that counts here."""
        searches = events.types == TYPE_CODES[EventType.SEARCH]
        raw = np.where(searches, events.window.astype(np.float64), 0.0)
        totals = np.bincount(events.users, weights=raw, minlength=len(events.offsets) - 1)
        totals[totals == 0.0] = 1.0
        shares: Float32 = (raw / totals[events.users]).astype(np.float32)
        return shares

    def _by_age(self, events: _KnownEvents) -> npt.NDArray[np.float64]:
        newest = events.times_ms[events.offsets[1:][events.users] - 1]
        age_ms = np.maximum(newest - events.times_ms, 0)
        steps = age_ms * _STEPS // self._time_half_life_ms
        halvings = np.minimum(steps // _STEPS, 1_000).astype(np.int32)
        weights: npt.NDArray[np.float64] = np.ldexp(self._steps[steps % _STEPS], -halvings)
        return weights


@dataclass(frozen=True)
class _KnownEvents:
    batch: WindowBatch
    rows: npt.NDArray[np.int64]
    users: Int64
    offsets: Int64
    times_ms: Int64
    types: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, batch: WindowBatch, known: npt.NDArray[np.bool_]) -> _KnownEvents:
        """Return the events whose row is known, users without any kept as empty windows."""
        counts = np.diff(batch.offsets)
        users = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        rows = batch.rows.astype(np.int64)
        keep = (rows >= 0) & (rows < len(known))
        keep &= known[np.where(keep, rows, 0)]
        if keep.all():
            offsets = batch.offsets.astype(np.int64)
            return cls(batch, rows, users, offsets, batch.times_ms, batch.types)
        users = users[keep]
        kept = np.bincount(users, minlength=len(counts))
        offsets = np.concatenate(([0], np.cumsum(kept))).astype(np.int64)
        kept_only = WindowBatch(
            batch.rows[keep],
            offsets,
            batch.times_ms[keep],
            batch.types[keep],
            batch.dwell_ms[keep],
            batch.counts,
        )
        return cls(kept_only, rows[keep], users, offsets, kept_only.times_ms, kept_only.types)

    def ranks(self) -> Int64:
        """[K] places behind the user's newest event."""
        return self.offsets[1:][self.users] - 1 - np.arange(len(self.rows))


def _shares(
    raw: npt.NDArray[np.float64], events: _KnownEvents
) -> tuple[Float32, npt.NDArray[np.bool_]]:
    # bincount adds in event order, one user after the other: the same sum in any batch.
    totals = np.bincount(events.users, weights=raw, minlength=len(events.offsets) - 1)
    has_weight = totals > 0.0
    totals[~has_weight] = 1.0
    return (raw / totals[events.users]).astype(np.float32), has_weight


def rank_table(half_life_events: float) -> npt.NDArray[np.float64]:
    """Return what an event counts by how many places it lies behind the newest."""
    if half_life_events == 0.0:
        return np.ones(_MAX_RANK)
    return np.array([2.0 ** (-rank / half_life_events) for rank in range(_MAX_RANK)])
