"""What was published for one partition: every window and update that lies in the live topics.

A partition's records are held one by one, but of each only a digest: a million updates of 384
numbers are gigabytes, their digests are not. What differs is read once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from encoders.interface import Float32
from state import codec, era
from stream_app.delivery import APPLIED_OFFSET_HEADER
from stream_app.errors import FixData
from stream_app.topic_scan import to_the_end
from stream_app.updates import FLOAT16_SCHEMA_VERSION, Update, decode

_MOVE_EVERY = 1000

Wanted = Callable[[bytes], bool]
"""Whether a user, by record key, is to be looked at."""


class Published(NamedTuple):
    """A record of the changelog (a window) or of the updates topic (a vector)."""

    applied_offset: int
    key: bytes
    is_vector: bool
    digest: bytes | None
    """Of what it says; None for a tombstone, empty where it cannot be read."""
    log_offset: int
    timestamp_ms: int
    model_id: str = ""
    half: bool = False
    """Whether its vectors are float16."""
    granularities: bytes = b""
    """Digest of the granularities' vectors, empty where it carries none."""
    interests: bytes = b""
    """Digest of the vectors of several interests, empty where it carries none."""


class Anchor(NamedTuple):
    """A window to begin with where the log no longer reaches back to the user's first event."""

    applied_offset: int
    stored: bytes


class PublishedPartition:
    """The records of one partition of both topics, and what each says last of every user."""

    def __init__(self, begin: int) -> None:
        """``begin``: offset at which the partition's log of events begins now."""
        self.begin = begin
        self.records: list[Published] = []
        self.anchors: dict[bytes, Anchor] = {}
        """Where the log has lost its beginning: each user's first window that it goes on from."""
        self.rewound_to: int | None = None
        """The earliest source offset that windows were made anew from, if they ever were."""
        self._era = 0
        self.last_window: dict[bytes, Published] = {}
        self.last_vector: dict[bytes, Published] = {}
        """By the reader's rule: the greatest applied offset, of equal ones the last."""

    async def read(
        self,
        consumer: AIOKafkaConsumer,
        wanted: Wanted,
        moved: Callable[[int], None],
        *,
        vectors: bool,
    ) -> None:
        """Read the rest of the consumer's partition: of the updates topic, else of the changelog.

        The changelog first: its marks are about windows.

        ``moved`` is told now and then how many records were read.
        """
        (tp,) = consumer.assignment()
        taken = _vector if vectors else _window
        position = await consumer.position(tp)
        keys: dict[bytes, bytes] = {}
        async for record in to_the_end(consumer):
            if record.offset - position >= _MOVE_EVERY:
                moved(record.offset - position)
                position = record.offset
            if not vectors and era.is_mark(record.key):
                self._rewound(era.decode(record.value))
            elif not vectors and era.of_headers(record.headers) < self._era:
                continue  # from before a rewind, written late
            elif record.key is not None and wanted(record.key):
                found = taken(record, keys.setdefault(record.key, record.key))
                self.add(found)
                if self.begin and found.digest and not vectors:
                    self._anchor(found, record.value)

    def add(self, found: Published) -> None:
        """Take up one record; in the order of the topic."""
        self.records.append(found)
        last = self.last_vector if found.is_vector else self.last_window
        held = last.get(found.key)
        if held is None or found.applied_offset >= held.applied_offset:
            last[found.key] = found

    def _rewound(self, mark: era.Mark) -> None:
        """Begin an era: windows that are made anew from here are past, whatever they held."""
        self._era = mark.era
        to = mark.from_offset
        self.records = [each for each in self.records if each.applied_offset < to]
        held = self.last_window.items()
        self.last_window = {key: each for key, each in held if each.applied_offset < to}
        self.anchors = {key: each for key, each in self.anchors.items() if each.applied_offset < to}
        if to > self.begin:  # else windows made anew are as if there had been none before
            self.rewound_to = to if self.rewound_to is None else min(to, self.rewound_to)

    def _anchor(self, found: Published, stored: bytes) -> None:
        """Every event behind the window must still be there, so it must reach to the beginning."""
        held = self.anchors.get(found.key)
        if found.applied_offset >= self.begin - 1 and (
            held is None or found.applied_offset < held.applied_offset
        ):
            self.anchors[found.key] = Anchor(found.applied_offset, stored)


def vector_digest(vector: Float32, time_ms: int, event_count: int, *, half: bool = False) -> bytes:
    """Return 16 bytes of a vector [D] as published, and of what is said of its window."""
    digest = hashlib.blake2b(_as_published(vector, half), digest_size=16)
    digest.update(b"%d,%d" % (time_ms, event_count))
    return digest.digest()


def parts_digest(parts: Float32, *, half: bool = False) -> bytes:
    """Return 16 bytes of several vectors [K, D]: of granularities by name, or of interests."""
    return hashlib.blake2b(_as_published(parts, half), digest_size=16).digest()


def window_digest(stored: bytes) -> bytes:
    """Return 16 bytes of a window's bytes."""
    return hashlib.blake2b(stored, digest_size=16).digest()


def _as_published(numbers: Float32, half: bool) -> bytes:
    # Minus zero and zero are one number, though not one row of bits.
    kept = numbers.astype(np.float16) if half else numbers
    return (kept.astype(np.float32) + np.float32(0.0)).tobytes()


def _window(record: ConsumerRecord, key: bytes) -> Published:
    if record.value is None:
        applied = int(dict(record.headers).get(APPLIED_OFFSET_HEADER, -1))
        return Published(applied, key, False, None, record.offset, record.timestamp)
    try:
        applied = codec.decode(record.value).applied_offset
    except codec.UnreadableWindow:
        return Published(-1, key, False, b"", record.offset, record.timestamp)
    digest = window_digest(record.value)
    return Published(applied, key, False, digest, record.offset, record.timestamp)


def _vector(record: ConsumerRecord, key: bytes) -> Published:
    at = record.offset, record.timestamp
    headers = dict(record.headers)
    applied = int(headers.get(APPLIED_OFFSET_HEADER, -1))
    if record.value is None:
        return Published(applied, key, True, None, *at)
    try:
        update = decode(record.value)
    except FixData:
        return Published(-1, key, True, b"", *at, headers.get("model_id", b"").decode())
    half = update.schema_version == FLOAT16_SCHEMA_VERSION
    vector = np.array(update.vector, np.float32)
    digest = vector_digest(vector, update.time_ms, update.event_count)
    parts = _granularities(update)
    interests = np.array(update.interests, np.float32)
    return Published(
        update.applied_offset, key, True, digest, *at, update.model_id, half,
        b"" if parts is None else parts_digest(parts),
        parts_digest(interests) if len(interests) else b"",
    )  # fmt: skip


def _granularities(update: Update) -> Float32 | None:
    """Return the granularities' vectors [G, D] of an update, by name; None where it has none."""
    if not update.granularities:
        return None
    names = sorted(update.granularities)
    return np.array([update.granularities[name] for name in names], np.float32)
