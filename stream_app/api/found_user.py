"""One user, as a request found them here, and what is said of every event of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from encoders.interface import EncoderInfo
from state.event import WINDOW_TYPES
from state.window import Window
from stream_app.parts import Parts
from stream_app.text_keys import text_keys

MOST_EVENTS = 200
"""Of one answer, the newest: each costs a window encoded. Windows hold 50 by default."""
_MOST_CHARS = 300


class FoundUser(NamedTuple):
    """A user of this worker at one moment."""

    user_id: str
    window: Window
    topic: str
    partition: int
    folded_offset: int
    parts: Parts
    info: EncoderInfo

    def first_shown(self) -> int:
        """Return the place of the oldest event that an answer tells of."""
        return max(0, len(self.window) - MOST_EVENTS)

    def texts(self) -> list[str | None]:
        """Return the text of every event of the window: its own, else its item's."""
        window = self.window
        if not window.texts:
            return self.parts.catalogue.texts(_known(window.item_ids))
        items = window.item_ids or (None,) * len(window)
        of_items = iter(self.parts.catalogue.texts(_known(items)))
        return [
            own if own is not None else of_item
            for own, of_item in zip(window.texts, of_items, strict=True)
        ]

    def keys(self) -> list[str]:
        """Return what the encoder knows each event's text by."""
        return list(text_keys(self.window)) if len(self.window) else []

    def event_type(self, at: int) -> str:
        """Return the type of the event at a place."""
        return WINDOW_TYPES[self.window.types[at]].value

    def item_id(self, at: int) -> str | None:
        """Return the item of the event at a place."""
        return self.window.item_ids[at] if self.window.item_ids else None


def cut(text: str | None) -> str | None:
    """Return as much of a text as an answer shows.

    >>> cut("a" * 400)[-3:], len(cut("a" * 400))
    ('aa…', 300)
    """
    if text is None or len(text) <= _MOST_CHARS:
        return text
    return text[: _MOST_CHARS - 1] + "…"


def _known(item_ids: Sequence[str | None]) -> list[str]:
    return [item or "" for item in item_ids]  # nothing is called ""
