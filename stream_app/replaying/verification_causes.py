"""Why a window or a vector differs, as far as the two sides of it tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import numpy as np

from encoders.interface import Float32
from state.window import Window
from stream_app.replaying.verification_result import Cause
from stream_app.updates import Update

_SETTLING_MS = 1_000
"""A worker may take a text up so long after it was written: what was published in between was made
without it, though its record is newer."""

Why = tuple[Cause, str]


def of_window(published: Window, ours: Window, rewound_to: int | None) -> Why:
    """Return why the changelog's window is not ours.

    ``rewound_to``: source offset from which windows of the partition were once made anew.
    """
    names = [
        field.name
        for field in msgspec.structs.fields(Window)
        if getattr(published, field.name) != getattr(ours, field.name)
    ]
    if "applied_offset" in names:
        return no_such_event(ours)
    if rewound_to is not None and ours.applied_offset >= rewound_to:
        return _rewound(rewound_to)
    if len(published) != len(ours) and _same_tail(published, ours):
        return (
            Cause.WINDOW_SETTINGS,
            f"it holds the last {len(published)} events, by the settings of now the last "
            f"{len(ours)}",
        )
    if not names:
        return Cause.UNKNOWN, "the same window, written as other bytes"
    return Cause.UNKNOWN, f"differs in {', '.join(names)}"


def _same_tail(one: Window, other: Window) -> bool:
    """Tell whether the shorter window is the end of the longer one."""
    count = min(len(one), len(other))
    if not count:
        return False
    return list(one.events(""))[-count:] == list(other.events(""))[-count:]


def of_vector(
    published: Update,
    published_ms: int,
    ours: Window,
    vector: Float32,
    changed_ms: Mapping[str, int],
    rewound_to: int | None,
) -> Why:
    """Return why the published vector is not ``vector`` [D], which is ours.

    ``changed_ms``: item id -> when the catalogue got the text it has now.
    """
    other_window = published.event_count != len(ours) or published.time_ms != ours.times_ms[-1]
    if other_window and rewound_to is not None and ours.applied_offset >= rewound_to:
        return _rewound(rewound_to)
    if other_window:
        return (
            Cause.WINDOW_SETTINGS,
            f"made of a window of {published.event_count} events, by the settings of now it has "
            f"{len(ours)}",
        )
    newer = [
        item
        for item in _items_by_text(ours)
        if changed_ms.get(item, -1) > published_ms - _SETTLING_MS
    ]
    theirs = np.array(published.vector, np.float32)
    apart = _apart(theirs, vector)
    if newer:
        when = changed_ms[newer[0]]
        more = f" and {len(newer) - 1} more" if len(newer) > 1 else ""
        return (
            Cause.ITEM_TEXT_CHANGED,
            f"the text of item {newer[0]}{more} is of {_time(when)}, the update of "
            f"{_time(published_ms)}; {apart}",
        )
    return Cause.UNKNOWN, apart


def no_such_event(ours: Window) -> Why:
    """Return that something was published for an offset at which the user has no event."""
    return (
        Cause.NO_SUCH_EVENT,
        f"the user's last event until then is at offset {ours.applied_offset}",
    )


def _rewound(to: int) -> Why:
    return (
        Cause.REWOUND,
        f"windows were made anew from offset {to} on: they may lack what lies before",
    )


def _items_by_text(window: Window) -> dict[str, None]:
    """Return the items whose catalogue text counts: an event's own text goes before it."""
    texts = window.texts or (None,) * len(window.item_ids)
    held = zip(window.item_ids, texts, strict=True)
    return {item: None for item, text in held if item is not None and text is None}


def greatest_difference(published: Update, vector: Float32) -> float:
    """Return by how much a number of the vector differs at most; infinite for other lengths."""
    theirs = np.array(published.vector, np.float32)
    if theirs.shape != vector.shape:
        return float("inf")
    return float(np.abs(theirs - vector).max(initial=0.0))


def _apart(theirs: Float32, vector: Float32) -> str:
    if theirs.shape != vector.shape:
        return f"{len(theirs)} dimensions, expected {len(vector)}"
    apart = np.abs(theirs - vector)
    at = int(apart.argmax()) if len(apart) else 0
    if not len(apart) or not apart[at]:
        return "the same vector; those of its granularities or interests differ"
    return f"{np.count_nonzero(apart)} numbers differ, number {at} most, by {apart[at]:.3g}"


def _time(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
