"""Whether a user's shadow vector may stand for the live one. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """What a promotion does about a user."""

    COPY = "copy"
    DONE = "done"
    """The live vector is of the model already."""
    FORGOTTEN = "forgotten"
    """The last word of the one side or the other is a tombstone."""
    LEFT_TO_WORKERS = "left-to-workers"
    """The shadow is ahead of what the live workers have committed: they get there themselves."""
    SHADOW_BEHIND = "shadow-behind"
    """The live vector, of another model, includes events that the shadow does not."""
    OTHER_WINDOW = "other-window"
    """Both include the same events of the log, but their windows are not the same."""
    NOT_IN_SHADOW = "not-in-shadow"


class Last(NamedTuple):
    """What one of the two topics says last of a user."""

    applied_offset: int
    model_id: str | None
    """None: a tombstone."""
    log_offset: int
    event_count: int = 0
    time_ms: int = 0


def verdict(live: Last | None, shadow: Last | None, model_id: str, committed: int) -> Verdict:
    """Return what to do about a user whom at least one of the topics knows.

    ``committed``: the live group's offset in the user's partition: what lies before it is
    published.

    >>> old, new = Last(7, "old", 3, 5, 90), Last(7, "new", 2, 5, 90)
    >>> verdict(old, new, "new", committed=8).value
    'copy'
    >>> verdict(old._replace(applied_offset=9), new, "new", committed=10).value
    'shadow-behind'
    """
    tombstones = [side for side in (live, shadow) if side is not None and side.model_id is None]
    if live is not None and live.model_id == model_id:
        return Verdict.DONE
    if tombstones:
        return Verdict.FORGOTTEN
    if shadow is None:
        return Verdict.NOT_IN_SHADOW
    return _of_old_model(live, shadow, committed)


def _of_old_model(live: Last | None, shadow: Last, committed: int) -> Verdict:
    if shadow.applied_offset >= committed:
        return Verdict.LEFT_TO_WORKERS
    if live is None or live.applied_offset < shadow.applied_offset:
        return Verdict.COPY  # older than what is committed: an update is missing there
    if live.applied_offset > shadow.applied_offset:
        return Verdict.SHADOW_BEHIND
    same = (live.event_count, live.time_ms) == (shadow.event_count, shadow.time_ms)
    return Verdict.COPY if same else Verdict.OTHER_WINDOW
