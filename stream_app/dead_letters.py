"""Records that are no events, on their way to the dead-letter topic with reason and position."""

from __future__ import annotations

from typing import NamedTuple

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
        ]
        key, value = self.key, self.value
        room = MAX_BATCH_BYTES - _ROOM_FOR_HEADERS_BYTES
        if key is not None and len(key) > room // 2:
            headers.append(("key_truncated_from", b"%d" % len(key)))
            key = key[: room // 2]
        room -= len(key or b"")
        if value is not None and len(value) > room:
            headers.append(("truncated_from", b"%d" % len(value)))
            value = value[:room]
        return OutRecord(key, value, headers)
