"""A batch of windows as rectangles, for a pass that answers at every event at once.

Legend: B windows, L events of the longest, F context features, P events that are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.context_features import FEATURES
from encoders.evaluation.interactions import NO_ITEM
from encoders.interface import Float32, Int64
from encoders.training.events import Bools, Stretches, TrainingEvents
from state.event import WINDOW_TYPES

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Windows:
    """Oldest first; what lies behind a window's last event repeats it and is never looked at."""

    rows: Int64
    """[B, L] of the events' texts."""
    times_ms: Int64
    """[B, L]"""
    types: Int64
    """[B, L]"""
    session_starts: Int64
    """[B, L] first event of the session that each event belongs to."""
    last: Int64
    """[B] place of the newest event."""
    asked: Bools
    """[B, L] which events are asked for what comes next."""
    features: Float32 | None
    """[P, F] context at the asked events, in their order; None: not wanted."""


@dataclass(frozen=True)
class Batch:
    """Windows, and what they are asked."""

    windows: Windows
    items: Int64
    """[P] the next item."""
    labels: Float32
    """[P]"""


def batch_of(
    events: TrainingEvents, stretches: Stretches, session_gap_ms: int, *, context: bool
) -> Batch:
    """Return the rectangle of some stretches."""
    index, inside = _rectangle(stretches)
    lengths = stretches.stops - stretches.starts
    following = np.where(inside, index + 1, index)
    asked = inside & events.is_target[following]
    starts = session_starts(events.times_ms[index], session_gap_ms)
    features = None
    if context:
        features = features_at_every_event(events, index, starts)[asked]
    windows = Windows(
        rows=events.rows[index],
        times_ms=events.times_ms[index],
        types=events.types[index].astype(np.int64),
        session_starts=starts,
        last=lengths - 1,
        asked=asked,
        features=features,
    )
    return Batch(windows, events.items[following[asked]], events.labels[following[asked]])


def masked_batch_of(
    events: TrainingEvents, stretches: Stretches, share: float, generator: np.random.Generator
) -> Batch:
    """Return whole windows that ask for some of their own items: a ``share`` of them, at random,
    and one at least in a window that has any (BERT4Rec, arXiv:1904.06690, section 3.6)."""
    index, inside = _rectangle(stretches)
    drawn = generator.random(index.shape)
    drawn[~inside | (events.items[index] == NO_ITEM)] = np.inf
    asked = (drawn < share) | (drawn == drawn.min(axis=1, keepdims=True))
    asked &= np.isfinite(drawn)
    times_ms = events.times_ms[index]
    windows = Windows(
        rows=events.rows[index],
        times_ms=times_ms,
        types=events.types[index].astype(np.int64),
        session_starts=np.zeros_like(index),
        last=stretches.stops - stretches.starts - 1,
        asked=asked,
        features=None,
    )
    items = events.items[index[asked]]
    return Batch(windows, items, np.ones(len(items), dtype=np.float32))


def _rectangle(stretches: Stretches) -> tuple[Int64, Bools]:
    """[B, L] events of each stretch, and which of them are its own, not filling."""
    lengths = stretches.stops - stretches.starts
    places = np.arange(int(lengths.max()))
    inside = places < lengths[:, None]
    last = stretches.stops[:, None] - 1
    return np.where(inside, stretches.starts[:, None] + places, last), inside


def session_starts(times_ms: Int64, gap_ms: int) -> Int64:
    """[B, L] times -> [B, L] where the session of each event starts."""
    new = np.diff(times_ms, axis=1, prepend=times_ms[:, :1]) > gap_ms
    places = np.where(new, np.arange(times_ms.shape[1]), 0)
    starts: Int64 = np.maximum.accumulate(places, axis=1)
    return starts


def features_at_every_event(events: TrainingEvents, index: Int64, starts: Int64) -> Float32:
    """Return [B, L, F] what :func:`encoders.context_features.context_features` says of the window
    that ends at each event, by running sums.

    ``index`` [B, L] are the events of the windows, ``starts`` [B, L] their sessions' first places.
    """
    times_ms, types = events.times_ms[index], events.types[index]
    dwell_ms = events.dwell_ms[index]
    held = np.arange(1, index.shape[1] + 1)
    of_type = [(types == code).cumsum(axis=1) / held for code in range(len(WINDOW_TYPES))]
    span_s = np.maximum(times_ms - times_ms[:, :1], 0) / 1_000
    gap_s = np.maximum(np.diff(times_ms, axis=1, prepend=times_ms[:, :1]), 0) / 1_000
    known = (dwell_ms >= 0).cumsum(axis=1)
    log_dwell = np.where(dwell_ms >= 0, np.log1p(np.maximum(dwell_ms, 0) / 1_000), 0.0)
    hour = 2 * np.pi * (times_ms % _DAY_MS) / _DAY_MS
    weekday = 2 * np.pi * (times_ms // _DAY_MS % 7) / 7
    columns = [
        *of_type,
        np.broadcast_to(np.log1p(held), times_ms.shape),
        np.log1p(span_s),
        np.log1p(span_s / np.maximum(held - 1, 1)),
        np.log1p(gap_s),
        (held - starts) / held,
        known / held,
        log_dwell.cumsum(axis=1) / np.maximum(known, 1),
        *(np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday)),
        *np.moveaxis(np.log1p(events.counts[index]), -1, 0),
    ]
    features: Float32 = np.stack(columns, axis=-1).astype(np.float32)
    assert features.shape[-1] == len(FEATURES)
    return features
