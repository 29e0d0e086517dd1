"""What a text is looked up by: its item, or a text of an event's own, which is no item's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from state.window import Window

_INLINE = "\x00"
"""Before an inline text used as a key, so that it is never taken for an item id."""


def inline_key(text: str) -> str:
    """Return what a text of its own, which is no item's, is looked up by."""
    return _INLINE + text


def text_keys(window: Window) -> Sequence[str]:
    """Return what each event's text is looked up by: its own text, else its item."""
    if not window.texts:
        return window.item_ids  # type: ignore[return-value]  # no text, so there is an item
    items = window.item_ids or repeat(None)
    return [
        (item or "") if text is None else inline_key(text)
        for text, item in zip(window.texts, items, strict=False)
    ]


def is_item(key: str) -> bool:
    """Tell whether the key is an item's id."""
    return not key.startswith(_INLINE)


def inline_text(key: str) -> str:
    """Return the text of a key of :func:`inline_key`."""
    return key[len(_INLINE) :]
