"""Records that are no events, on their way to the dead-letter topic with reason and position."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from state.masking import mask
from stream_app.producer import MAX_BATCH_BYTES, OutRecord

REASONS = (
    *("empty", "too-large", "not-json", "not-an-object", "invalid-field", "unknown-type"),
    *("key-mismatch", "absurd-time", "invalid-item", "media-not-usable", "text-not-encodable"),
    "encoder-failed",
)
"""All there are; docs/topics.md says what each means."""
_ROOM_FOR_HEADERS_BYTES = 4096
_MAX_DETAIL_BYTES = 1024


class DeadLetter(NamedTuple):
    """A record as it came, why it is no event, and where it lay."""

    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    masked: bool = False
    """Whether the value is not quite as it came; see :func:`masked`."""
    truncated_from: int | None = None
    """Bytes of the value as it came, where it was cut."""

    def record(self) -> OutRecord:
        """Return the record to produce: key and value as they came, the rest in headers.

        A value too large for a batch is cut, and the header ``truncated_from`` says its size.
        """
        headers = [
            ("reason", self.reason.encode()),
            ("detail", self.detail.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES]),
            ("source_topic", self.topic.encode()),
            ("source_partition", b"%d" % self.partition),
            ("source_offset", b"%d" % self.offset),
            *([("masked", b"1")] if self.masked else ()),
        ]
        key, value, value_bytes = self.key, self.value, self.truncated_from
        room = MAX_BATCH_BYTES - _ROOM_FOR_HEADERS_BYTES
        if key is not None and len(key) > room // 2:
            headers.append(("key_truncated_from", b"%d" % len(key)))
            key = key[: room // 2]
        room -= len(key or b"")
        if value is not None and len(value) > room:
            value_bytes = value_bytes or len(value)
            value = value[:room]
        if value_bytes is not None:
            headers.append(("truncated_from", b"%d" % value_bytes))
        return OutRecord(key, value, headers)


_IDS = ("event_id", "user_id", "item_id", "session_id")
"""Left as they are: without them nobody finds the record again, and the key has the user's, too."""


def masked(value: bytes | None) -> bytes | None:
    """Return a record's value with addresses and numbers masked; the very same if it has none.

    In JSON that is done value by value, so that it stays JSON; a number becomes a string. What is
    none is taken as a text, and so is an object with a name twice or a name that is to be masked.
    """
    if not value:
        return value
    try:
        found = json.loads(value, object_pairs_hook=_object)
        before, after = json.dumps(found), json.dumps(_masked_within(found))
        return value if after == before else after.encode()
    except (ValueError, RecursionError):
        text = value.decode("utf-8", "surrogateescape")
        after = mask(text)
        return value if after is text else after.encode("utf-8", "surrogateescape")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) or any(mask(name) is not name for name in found):
        raise ValueError("to be masked as a text")
    return found


def _masked_within(found: Any) -> Any:
    match found:
        case str():
            return mask(found)
        case int() | float():
            digits = str(found)
            return found if mask(digits) is digits else mask(digits)
        case list():
            return [_masked_within(one) for one in found]
        case dict():
            return {
                name: one if name in _IDS else _masked_within(one) for name, one in found.items()
            }
    return found
