"""What a verification found. The words are those of the JSON and of docs/verification.md."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What differs."""

    WINDOW = "window"
    """The changelog holds another window than the log of events gives."""
    VECTOR = "vector"
    """The updates topic holds another vector than window, texts and model give."""
    WINDOW_MISSING = "window-missing"
    """The changelog's last record of the user is older than what is committed."""
    VECTOR_MISSING = "vector-missing"
    TOMBSTONE_MISSING = "tombstone-missing"
    """The user has been forgotten, and a value still stands."""
    TOMBSTONE_UNEXPECTED = "tombstone-unexpected"
    UNREADABLE = "unreadable"


class Cause(StrEnum):
    """Why, as far as can be told."""

    ITEM_TEXT_CHANGED = "item-text-changed"
    """The catalogue has another text since: the record of an item is newer than the update."""
    WINDOW_SETTINGS = "window-settings"
    """The same events, but the windows reach back differently far."""
    REWOUND = "rewound"
    """The windows were made anew from a later offset on, by `interest-stream rewind`."""
    WINDOW_DIFFERS = "window-differs"
    """The window that the vector was made of is itself listed."""
    NO_SUCH_EVENT = "no-such-event"
    """The log has no event of the user at this offset."""
    NOT_ENCODABLE = "not-encodable"
    """No vector can be made of the window: see the dead letters."""
    UNKNOWN = "unknown"


class Difference(msgspec.Struct, frozen=True):
    """One record that is not what the past gives, or one that is not there."""

    user: str
    partition: int
    offset: int
    """Of the source record up to which the window includes everything."""
    kind: Kind
    cause: Cause
    detail: str


class Verified(msgspec.Struct):
    """What was compared, and how it came out."""

    model_id: str = ""
    tolerance: float = 0.0
    events: int = 0
    """Source records read and folded, dead letters among them."""
    dead_letters: int = 0
    users: int = 0
    windows: int = 0
    """Changelog records compared with a window of our own, bit for bit."""
    vectors: int = 0
    vectors_within_tolerance: int = 0
    """Of ``vectors``, those that differ by no more than the tolerance."""
    tombstones: int = 0
    of_other_models: dict[str, int] = {}
    """Model id -> updates of it, which cannot be compared."""
    history_gone: int = 0
    """Records that cannot be compared: the log has lost the beginning of their users' past."""
    anchors: int = 0
    """Users who were begun with their first window in the changelog, for the same reason; that
    window was taken as it is."""
    differences: list[Difference] = []
    not_examined: int = 0
    """Differences beyond those listed: their causes were not looked for."""
    notes: list[str] = []
    seconds: float = 0.0
    events_per_s: int = 0

    def failing(self, allowed: frozenset[Cause]) -> int:
        """Return how many differences have a cause that is not ``allowed``."""
        listed = sum(each.cause not in allowed for each in self.differences)
        return listed + self.not_examined

    def as_json(self) -> Any:
        """Return this as plain values."""
        return msgspec.to_builtins(self)
