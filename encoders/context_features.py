"""What is known of a user's behaviour besides the texts: the features of the context.

Legend: B users, L events, F features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.interface import Float32, WindowBatch
from encoders.sessions import session_starts
from state.event import WINDOW_TYPES

_DAY_MS = 86_400_000
FEATURES = (
    *(f"share_{kind.value}" for kind in WINDOW_TYPES),
    "log_events",
    "log_span_s",
    "log_mean_gap_s",
    "log_last_gap_s",
    "session_share",
    "dwell_known_share",
    "mean_log_dwell_s",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
    *(f"log_all_{kind.value}" for kind in WINDOW_TYPES),
)
"""Names of the F features, in order. Times are of the newest event: no clock is read."""


def context_features(batch: WindowBatch, session_gap_ms: int) -> Float32:
    """Return [B, F] features of all events of the batch; zeros for an empty window."""
    counts = np.diff(batch.offsets)
    users = np.repeat(np.arange(len(counts)), counts)
    events = np.maximum(counts, 1).astype(np.float64)

    def share(which: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.bincount(users[which], minlength=len(counts)) / events

    columns = [share(batch.types == code) for code in range(len(WINDOW_TYPES))]
    columns += [np.log1p(counts), *_rhythm(batch, counts)]
    starts = session_starts(batch.times_ms, users, batch.offsets, session_gap_ms)
    columns.append(share(np.arange(len(users)) >= starts))
    has_dwell = batch.dwell_ms >= 0
    log_dwell = np.where(has_dwell, np.log1p(np.maximum(batch.dwell_ms, 0) / 1_000), 0.0)
    known = np.bincount(users[has_dwell], minlength=len(counts))
    total = np.bincount(users, weights=log_dwell, minlength=len(counts))
    columns += [known / events, total / np.maximum(known, 1), *_calendar(batch, counts)]
    columns += list(np.log1p(_all_time(batch, users)).T)
    features = np.stack(columns, axis=1)
    features[counts == 0] = 0.0
    return features.astype(np.float32)


def _all_time(batch: WindowBatch, users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[B, types] how many events of each type the user ever had, or has here."""
    if batch.counts is not None:
        return batch.counts
    kinds = len(WINDOW_TYPES)
    flat = users * kinds + batch.types
    held = np.bincount(flat[batch.types < kinds], minlength=(len(batch.offsets) - 1) * kinds)
    return held.reshape(-1, kinds)


def _rhythm(
    batch: WindowBatch, counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], ...]:
    """Logarithms of span, mean gap and last gap in seconds, each [B]."""
    if not len(batch.times_ms):
        nothing = np.zeros(len(counts))
        return nothing, nothing, nothing
    last = np.maximum(batch.offsets[1:] - 1, 0)
    first = np.minimum(batch.offsets[:-1], len(batch.times_ms) - 1)
    before = np.maximum(last - 1, first)
    span_s = np.maximum(batch.times_ms[last] - batch.times_ms[first], 0) / 1_000
    gap_s = np.maximum(batch.times_ms[last] - batch.times_ms[before], 0) / 1_000
    return np.log1p(span_s), np.log1p(span_s / np.maximum(counts - 1, 1)), np.log1p(gap_s)


def _calendar(
    batch: WindowBatch, counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], ...]:
    """Sine and cosine of hour and weekday (UTC) of the newest event, each [B]."""
    newest = np.zeros(len(counts), dtype=np.int64)
    newest[counts > 0] = batch.times_ms[batch.offsets[1:][counts > 0] - 1]
    hour = 2 * np.pi * (newest % _DAY_MS) / _DAY_MS
    weekday = 2 * np.pi * (newest // _DAY_MS % 7) / 7
    return np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday)
