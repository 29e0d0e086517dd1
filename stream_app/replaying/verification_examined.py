"""What differs, looked at closely: the record is read once more, and its cause is looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer

from state import codec
from stream_app.errors import FixData
from stream_app.item_record import Item
from stream_app.replaying import verification_causes as causes
from stream_app.replaying.verification_causes import Why
from stream_app.replaying.verification_published import Published, PublishedPartition
from stream_app.replaying.verification_result import Cause, Difference, Kind, Verified
from stream_app.replaying.verification_vectors import OtherVector
from stream_app.replaying.verification_walk import Suspect
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.updates import Update, decode

LISTED_MAX = 1_000
"""Nobody reads more; those beyond are counted."""
_POLL_MS = 500
_COMPACTED = "compaction has removed the record meanwhile"


class Logs(NamedTuple):
    """Readers of one partition, of the changelog and of the updates."""

    changelog: AIOKafkaConsumer
    updates: AIOKafkaConsumer


class Examiner:
    """Turns suspects into differences with causes."""

    def __init__(self, settings: Settings, verified: Verified) -> None:
        self._settings = settings
        self._verified = verified
        self._changed_ms: dict[str, int] | None = None

    async def examine(
        self,
        partition: PublishedPartition,
        suspects: Sequence[Suspect],
        vectors: Sequence[OtherVector],
        logs: Logs,
    ) -> None:
        """Look at what was found in one partition."""
        windows = [each.published for each in suspects if each.kind is Kind.WINDOW]
        stored = await _values(logs.changelog, [p for p in windows if p is not None])
        for suspect in suspects:
            if self._has_room():
                self._list(logs, suspect, _why(suspect, stored, partition.rewound_to))
        differing = {(each.key, each.offset) for each in suspects if each.kind is Kind.WINDOW}
        updates = await _values(logs.updates, [each.published for each in vectors])
        for other in vectors:
            if not self._within_tolerance(other, updates) and self._has_room():
                why = await self._why_vector(other, updates, differing, partition.rewound_to)
                published = other.published
                self._list(logs, Suspect(Kind.VECTOR, *_at(published), published, None), why)

    def _has_room(self) -> bool:
        if len(self._verified.differences) < LISTED_MAX:
            return True
        self._verified.not_examined += 1
        return False

    def _list(self, logs: Logs, suspect: Suspect, why: Why) -> None:
        (tp,) = logs.updates.assignment()
        user = suspect.key.decode(errors="replace")
        difference = Difference(user, tp.partition, suspect.offset, suspect.kind, *why)
        self._verified.differences.append(difference)

    def _within_tolerance(self, other: OtherVector, updates: Mapping[int, bytes]) -> bool:
        tolerance = self._verified.tolerance
        update = _update(updates.get(other.published.log_offset))
        if not tolerance or update is None or other.vector is None:
            return False
        if causes.greatest_difference(update, other.vector) > tolerance:
            return False
        self._verified.vectors_within_tolerance += 1
        return True

    async def _why_vector(
        self,
        other: OtherVector,
        updates: Mapping[int, bytes],
        differing: AbstractSet[tuple[bytes, int]],
        rewound_to: int | None,
    ) -> Why:
        published = other.published
        if _at(published) in differing:
            return Cause.WINDOW_DIFFERS, "the window of this offset is listed, too"
        if other.vector is None:
            return Cause.NOT_ENCODABLE, "no vector can be made of the window any more"
        update = _update(updates.get(published.log_offset))
        if update is None:
            return Cause.UNKNOWN, _COMPACTED
        return causes.of_vector(
            update,
            published.timestamp_ms,
            other.window,
            other.vector,
            await self._text_times(),
            rewound_to,
        )

    async def _text_times(self) -> dict[str, int]:
        """Return item id -> time of the record since which the item has its text of now."""
        if self._changed_ms is None:
            self._changed_ms = changed_ms = {}
            seen: dict[str, bytes] = {}
            settings = self._settings
            async with open_consumer(settings.kafka, settings.items_topic) as consumer:
                async for record in to_the_end(consumer):
                    item_id = (record.key or b"").decode(errors="replace")
                    said = _said(record.value)
                    if seen.get(item_id) != said:
                        seen[item_id] = said
                        changed_ms[item_id] = record.timestamp
        return self._changed_ms


def _said(value: bytes | None) -> bytes:
    """A digest of what of an item's record can change a vector."""
    if value is None:
        return b""
    try:
        item = msgspec.json.decode(value, type=Item)
    except msgspec.MsgspecError:
        return b""
    digest = hashlib.blake2b(item.text.encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(repr(item.media_vector).encode())
    return digest.digest()


_WHAT_IS_SEEN = {
    Kind.WINDOW_MISSING: "events up to here are committed, no window so new is in the changelog",
    Kind.VECTOR_MISSING: "events up to here are committed, no update so new is there",
    Kind.TOMBSTONE_MISSING: "forgotten here, and an older value is the last record",
    Kind.TOMBSTONE_UNEXPECTED: "the user has not been forgotten",
}


def _why(suspect: Suspect, stored: Mapping[int, bytes], rewound_to: int | None) -> Why:
    published, ours = suspect.published, suspect.ours
    if suspect.kind in _WHAT_IS_SEEN:
        return Cause.UNKNOWN, _WHAT_IS_SEEN[suspect.kind]
    assert published is not None
    if suspect.kind is Kind.UNREADABLE:
        where = "updates" if published.is_vector else "changelog"
        return Cause.UNKNOWN, f"the record at offset {published.log_offset} of the {where} topic"
    if ours is None:
        return Cause.NO_SUCH_EVENT, "of this user nothing is known here"
    found = stored.get(published.log_offset)
    if suspect.kind is Kind.WINDOW and found is not None:
        return causes.of_window(codec.decode(found), ours, rewound_to)
    if suspect.kind is Kind.WINDOW:
        return Cause.UNKNOWN, _COMPACTED
    return causes.no_such_event(ours)


def _at(published: Published) -> tuple[bytes, int]:
    return published.key, published.applied_offset


async def _values(consumer: AIOKafkaConsumer, wanted: Sequence[Published]) -> dict[int, bytes]:
    """Return log offset -> value of these records, those that are still there.

    One pass over the partition from the first of them on: what differs seldom comes alone.
    """
    offsets = {each.log_offset for each in wanted}
    if not offsets:
        return {}
    (tp,) = consumer.assignment()
    consumer.seek(tp, min(offsets))
    found = {}
    last = max(offsets)
    while await consumer.position(tp) <= last:
        for record in (await consumer.getmany(timeout_ms=_POLL_MS)).get(tp, ()):
            if record.offset in offsets:
                found[record.offset] = record.value
    return found


def _update(stored: bytes | None) -> Update | None:
    try:
        return None if stored is None else decode(stored)
    except FixData:
        return None
