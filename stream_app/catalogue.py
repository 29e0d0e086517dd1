"""The items topic as every worker knows it: item id -> text (and media vector, where an item brings
one), in a RocksDB of its own.

Read from its beginning with a plain consumer, a batch at a time, the offsets stored beside the
texts; then followed live. Every worker has the whole of it, for any user may meet any item.

A deleted item is a tombstone, and Kafka keeps one for a time only (``delete.retention.ms``): a
database that was last at the topic's end longer ago than half of that is begun anew.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import rocksdict
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from encoders.interface import Float32
from state import database
from stream_app import item_record
from stream_app.dead_letters import DeadLetter
from stream_app.delivery.window_table import is_too_old
from stream_app.kafka_access import Brokers, client_options
from stream_app.status import Counts

log = logging.getLogger("stream_app.catalogue")

_ITEM = b"i"
_MEDIA = b"m"
_OFFSET = b"o"
_PUBLISHED = b"p"
_AS_OF = b"t"
_BATCH_RECORDS = 2000
_PROGRESS_EVERY_S = 5.0
_AS_OF_EVERY_MS = 60_000
"""A minute more or less is nothing beside the days that a database may be old."""


class _Stored(NamedTuple):
    """What the database holds of an item; nothing of one that was deleted."""

    text: bytes | None
    media: bytes | None


def _opened(path: Path) -> rocksdict.Rdict:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    return rocksdict.Rdict(str(path), options=options)


def _young(path: Path, topic: str) -> rocksdict.Rdict:
    """Open the database; one that is damaged, or may lack a tombstone, is begun anew."""
    db, damage = database.open_or_rebuild(path, lambda: _opened(path))
    if damage:
        log.error("%s was damaged and is read anew from %s: %s", path, topic, damage)
    now_ms = _now_ms()
    with database.told_apart(path):
        if is_too_old(_as_of_ms(db), now_ms):
            if next(iter(db.keys()), None) is not None:
                log.warning(
                    "%s is read anew from %s: it was last at the end of it too many days ago, or "
                    "notes no time, and may hold items deleted meanwhile",
                    path,
                    topic,
                )
                db.close()
                shutil.rmtree(path, ignore_errors=True)
                db = _opened(path)
            # What is read from now on is in the topic now; so is, or will be, what ends it.
            db.put(_AS_OF, b"%d" % now_ms)
    return db


def _as_of_ms(db: rocksdict.Rdict) -> int | None:
    """Return the time up to which all deletions count, ``None`` in one of a version before."""
    stored = db.get(_AS_OF)
    return None if stored is None else int(stored)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Catalogue:
    """Item texts, always as far as the items topic has been read."""

    def __init__(
        self,
        path: Path,
        topic: str,
        bootstrap_servers: Brokers,
        counts: Counts,
        *,
        max_text_chars: int,
        isolation_level: str,
        changed: Callable[[Sequence[str]], None],
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None]],
    ) -> None:
        """``bury`` takes what is no item; reading on waits for it."""
        self._path = path
        self._db = _young(path, topic)
        self._topic = topic
        self._bootstrap_servers = bootstrap_servers
        self._counts = counts
        self._max_text_chars = max_text_chars
        self._isolation_level = isolation_level
        self._changed = changed
        self._bury = bury
        self._consumer: AIOKafkaConsumer | None = None
        self.known = sum(1 for _ in self.items())

    async def start(self) -> None:
        """Connect and read up to the present end of the topic, telling the log how far it is."""
        self._consumer = consumer = AIOKafkaConsumer(
            **client_options(self._bootstrap_servers),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=_BATCH_RECORDS,
            isolation_level=self._isolation_level,
        )
        await consumer.start()
        await consumer._client.force_metadata_update()
        numbers = consumer.partitions_for_topic(self._topic) or set()
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
        for tp in partitions:
            stored = self._db.get(_OFFSET + b"%d" % tp.partition)
            position = int(stored) if stored is not None else 0
            if position > ends[tp]:
                log.warning("%s was made anew: reading it from the beginning", self._topic)
                position = 0
            consumer.seek(tp, max(position, starts[tp]))
        await self._catch_up(consumer, ends)

    async def _catch_up(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        said_at = asyncio.get_running_loop().time()
        while True:
            behind = 0
            for tp, end in ends.items():
                behind += max(0, end - await consumer.position(tp))
            if not behind:
                break
            await self._apply(await consumer.getmany(timeout_ms=500))
            now = asyncio.get_running_loop().time()
            if now - said_at > _PROGRESS_EVERY_S:
                said_at = now
                log.info("Reading the catalogue: %s items, %s records to go", self.known, behind)
        log.info("Catalogue read: %s items", self.known)

    async def follow(self) -> None:
        """Take up changes of the topic, for ever."""
        assert self._consumer is not None, "start() comes first"
        while True:
            await self._apply(await self._consumer.getmany(timeout_ms=1000))
            await self._renew(self._consumer)

    async def _renew(self, consumer: AIOKafkaConsumer) -> None:
        """Say up to when nothing lies behind our offsets, if we are at the end of the topic.

        That is when the broker last told where the end is; one that does not answer tells nothing.
        """
        told_ms = []
        for tp in consumer.assignment():
            end = consumer.highwater(tp)
            if end is None or await consumer.position(tp) < end:
                return
            told_ms.append(consumer.last_poll_timestamp(tp))
        with database.told_apart(self._path):
            as_of_ms = _as_of_ms(self._db) or 0
            if told_ms and min(told_ms) - as_of_ms >= _AS_OF_EVERY_MS:
                self._db.put(_AS_OF, b"%d" % min(told_ms))

    async def _apply(self, fetched: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        """Write fetched items and the offsets they reach to in one batch.

        What is no item is buried before: behind the offset nobody would look for it again.
        """
        if not fetched:
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        now: dict[str, _Stored] = {}
        refused: list[DeadLetter] = []
        for tp, records in fetched.items():
            for record in records:
                try:
                    item_id, stored = self._item(record)
                except item_record.REFUSALS as error:
                    refused.append(_letter(record, str(error)))
                else:
                    now[item_id] = stored
            batch.put(_OFFSET + b"%d" % tp.partition, b"%d" % (records[-1].offset + 1))
        if refused:
            self._counts.items_refused += len(refused)
            await self._bury(refused)
        ids = [item_id.encode() for item_id in now]
        texts, media = (self._get([kind + each for each in ids]) for kind in (_ITEM, _MEDIA))
        before = [_Stored(*old) for old in zip(texts, media, strict=True)]
        for encoded, stored, old in zip(ids, now.values(), before, strict=True):
            for kind, value in ((_ITEM, stored.text), (_MEDIA, stored.media)):
                if value is None:
                    batch.delete(kind + encoded)
                else:
                    batch.put(kind + encoded, value)
            if stored.text is None:
                batch.delete(_PUBLISHED + encoded)
            self.known += (stored.text is not None) - (old.text is not None)
        with database.told_apart(self._path):
            self._db.write(batch)
        self._changed([i for i, old in zip(now, before, strict=True) if now[i] != old])

    def _item(self, record: ConsumerRecord) -> tuple[str, _Stored]:
        if record.key is None:
            raise ValueError("an item needs its id as key")
        if record.value is None:
            return record.key.decode(), _Stored(None, None)
        item = item_record.decode(record.key, record.value)
        media = item.media()
        text = item.text[: self._max_text_chars].encode()
        return item.item_id, _Stored(text, None if media is None else media.tobytes())

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        """Return each item's text, ``None`` where the catalogue has none (yet)."""
        found = self._get([_ITEM + item_id.encode() for item_id in item_ids])
        return [None if value is None else value.decode() for value in found]

    def media(self, item_ids: Sequence[str]) -> list[Float32 | None]:
        """Return what each item brings beside its text, [M]; ``None`` where it brings nothing."""
        found = self._get([_MEDIA + item_id.encode() for item_id in item_ids])
        return [None if value is None else np.frombuffer(value, np.float32) for value in found]

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield (item id, text) of the whole catalogue, by item id."""
        for key, value in self._scan(_ITEM):
            yield key[1:].decode(), value.decode()

    def published(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Return the mark that :meth:`mark_published` left on each item."""
        return self._get([_PUBLISHED + item_id.encode() for item_id in item_ids])

    def mark_published(self, marks: Iterable[tuple[str, bytes]]) -> None:
        """Remember of which text and model each item's vector was published."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for item_id, mark in marks:
            batch.put(_PUBLISHED + item_id.encode(), mark)
        with database.told_apart(self._path):
            self._db.write(batch)

    def marked(self) -> Iterator[str]:
        """Yield the items that have a mark, by item id."""
        for key, _ in self._scan(_PUBLISHED):
            yield key[1:].decode()

    def unmark(self, item_ids: Iterable[str]) -> None:
        """Forget that these items' vectors were published."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for item_id in item_ids:
            batch.delete(_PUBLISHED + item_id.encode())
        with database.told_apart(self._path):
            self._db.write(batch)

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        with database.told_apart(self._path):
            return cast(list[bytes | None], self._db.get(cast(list[Any], keys)))

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with database.told_apart(self._path):
            for key, value in self._db.items(from_key=prefix):
                if not key.startswith(prefix):  # type: ignore[union-attr, arg-type]
                    return
                yield cast(bytes, key), value

    async def stop(self) -> None:
        """Disconnect and close the database."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None
        database.closed(self._db, self._path)


def _letter(record: ConsumerRecord, detail: str) -> DeadLetter:
    place = record.topic, record.partition, record.offset
    return DeadLetter(record.key, record.value, "invalid-item", detail, *place)
