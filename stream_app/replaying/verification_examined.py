"""What differs, looked at closely: the record is read once more, and its cause is looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from aiokafka.structs import TopicPartition

from state import codec
from stream_app.errors import FixData
from stream_app.item_record import Item
from stream_app.replaying import verification_causes as causes
from stream_app.replaying.verification_causes import Why
from stream_app.replaying.verification_published import Published
from stream_app.replaying.verification_result import Cause, Difference, Kind, Verified
from stream_app.replaying.verification_vectors import OtherVector
from stream_app.replaying.verification_walk import Suspect
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.updates import Update, decode

_LISTED_MAX = 1_000
"""Each costs a seek and a fetch of some milliseconds; nobody reads more."""


class Examiner:
    """Turns suspects into differences with causes."""

    def __init__(self, settings: Settings, verified: Verified) -> None:
        self._settings = settings
        self._verified = verified
        self._changed_ms: dict[str, int] | None = None
        self._windows_that_differ: set[tuple[bytes, int]] = set()

    async def examine(
        self, number: int, suspects: Sequence[Suspect], vectors: Sequence[OtherVector]
    ) -> None:
        """Look at what was found in one partition."""
        for suspect in suspects:
            if suspect.kind is Kind.WINDOW:
                self._windows_that_differ.add((suspect.key, suspect.offset))
        for suspect in suspects:
            if self._has_room():
                self._list(number, suspect, await self._why(number, suspect))
        for other in vectors:
            await self._vector(number, other)
        self._windows_that_differ.clear()

    def _has_room(self) -> bool:
        if len(self._verified.differences) < _LISTED_MAX:
            return True
        self._verified.not_examined += 1
        return False

    def _list(self, number: int, suspect: Suspect, why: Why) -> None:
        user = suspect.key.decode(errors="replace")
        difference = Difference(user, number, suspect.offset, suspect.kind, *why)
        self._verified.differences.append(difference)

    async def _why(self, number: int, suspect: Suspect) -> Why:
        published, ours = suspect.published, suspect.ours
        match suspect.kind:
            case Kind.WINDOW_MISSING | Kind.VECTOR_MISSING:
                return Cause.UNKNOWN, "events up to here are committed, nothing so new is there"
            case Kind.TOMBSTONE_MISSING:
                return Cause.UNKNOWN, "forgotten here, and an older value is the last record"
            case Kind.TOMBSTONE_UNEXPECTED:
                return Cause.UNKNOWN, "the user has not been forgotten"
            case Kind.UNREADABLE:
                assert published is not None
                where = "updates" if published.is_vector else "changelog"
                return Cause.UNKNOWN, f"offset {published.log_offset} of the {where} topic"
        assert published is not None
        if ours is None:
            return Cause.NO_SUCH_EVENT, "of this user nothing is known here"
        if suspect.kind is Kind.VECTOR:
            return (
                Cause.NO_SUCH_EVENT,
                f"the user's last event until then is at offset {ours.applied_offset}",
            )
        stored = await self._read(number, published)
        if stored is None:
            return Cause.UNKNOWN, "compaction has removed the record meanwhile"
        return causes.of_window(codec.decode(stored), ours)

    async def _vector(self, number: int, other: OtherVector) -> None:
        """One update: within the tolerance, or listed."""
        published = other.published
        tolerance = self._verified.tolerance
        if not tolerance and not self._has_room():
            return
        stored = await self._read(number, published)
        update = None if stored is None else _update(stored)
        if update is not None and other.vector is not None and tolerance:
            if causes.greatest_difference(update, other.vector) <= tolerance:
                self._verified.vectors_within_tolerance += 1
                return
            if not self._has_room():
                return
        suspect = Suspect(
            Kind.VECTOR, published.key, published.applied_offset, published, other.window
        )
        self._list(number, suspect, await self._why_vector(other, update))

    async def _why_vector(self, other: OtherVector, update: Update | None) -> Why:
        published = other.published
        if (published.key, published.applied_offset) in self._windows_that_differ:
            return Cause.WINDOW_DIFFERS, "the window of this offset is listed, too"
        if other.vector is None:
            return Cause.NOT_ENCODABLE, "no vector can be made of the window any more"
        if update is None:
            return Cause.UNKNOWN, "compaction has removed the record meanwhile"
        changed_ms = await self._text_times()
        return causes.of_vector(
            update, published.timestamp_ms, other.window, other.vector, changed_ms
        )

    async def _read(self, number: int, published: Published) -> bytes | None:
        settings = self._settings
        topic = settings.updates_topic if published.is_vector else settings.changelog_topic
        tp = TopicPartition(topic, number)
        async with open_consumer(settings.bootstrap_servers, topic, [number]) as consumer:
            consumer.seek(tp, published.log_offset)
            record = await consumer.getone(tp)
        value: bytes | None = record.value if record.offset == published.log_offset else None
        return value

    async def _text_times(self) -> dict[str, int]:
        """Return item id -> time of the record since which the item has its text of now."""
        if self._changed_ms is None:
            self._changed_ms = changed_ms = {}
            seen: dict[str, bytes] = {}
            settings = self._settings
            async with open_consumer(settings.bootstrap_servers, settings.items_topic) as consumer:
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


def _update(stored: bytes) -> Update | None:
    try:
        return decode(stored)
    except FixData:
        return None
