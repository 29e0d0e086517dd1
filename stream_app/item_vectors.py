"""Item vectors on their topic, each made and published by one worker.

An item belongs to the worker that holds the source partition its id hashes to, as a user's key
would. What was published, of which text and by which model, is marked in the catalogue's database,
so a restart publishes nothing twice. What others publish in a partition that has left us we do not
see: its marks go, and if it comes back its share is published once more, which changes nothing for
a reader.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import orjson

from encoders.interface import Float32
from stream_app.catalogue import Catalogue
from stream_app.encoder_process import EncoderFailed
from stream_app.encoding import WindowEncoder
from stream_app.lease import Lease
from stream_app.partition import Partition
from stream_app.producer import BatchProducer, DeliveryFailed, OutRecord
from stream_app.status import Counts
from stream_app.topics import partition_of

log = logging.getLogger("stream_app.item_vectors")

_CHUNK_ITEMS = 32
"""Published at once."""
_SLICE_ITEMS = 100
"""Looked at without a pause: 1.4 ms. A million at once took 14 s, longer than a session may."""
_CHANGED_MAX = 100_000
"""Ids remembered, about 10 MB; with more, the whole catalogue is looked at."""
_RETRY_S = 1.0

T = TypeVar("T")


class ItemVectors:
    """Publishes the vectors of the items that are this worker's share."""

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: WindowEncoder,
        producer: BatchProducer,
        partitions: Callable[[], Iterable[Partition]],
        lease: Lease,
        counts: Counts,
        *,
        topic: str,
        model_id: str,
        source_partitions: int,
    ) -> None:
        self._catalogue = catalogue
        self._encoder = encoder
        self._producer = producer
        self._partitions = partitions
        self._lease = lease
        self._counts = counts
        self._topic = topic
        self._model_id = model_id
        self._source_partitions = source_partitions
        self._wanted = asyncio.Event()
        self._changed: set[str] = set()
        self._whole = False
        """Whether all of the catalogue is to be looked at, not only what changed."""
        self._assignments = 0
        self._left: set[int] = set()
        """Partitions that were not ours at some assignment, whose marks may be there still."""
        self._chunk: dict[str, bytes] = {}
        """Item id -> mark, of what is on its way; an item that changes meanwhile leaves it."""
        self.settled = False
        """Whether our share of the catalogue, as it is now, is published."""

    def want(self, assigned: Iterable[int]) -> None:
        """Say which source partitions we were assigned: our share of the catalogue is another."""
        self._assignments += 1
        self._left.update(set(range(self._source_partitions)).difference(assigned))
        self._look(whole=True)

    def changed(self, item_ids: Sequence[str]) -> None:
        """Say that these items have changed in the catalogue."""
        for item_id in item_ids:
            self._chunk.pop(item_id, None)
        if item_ids:
            self._look(item_ids)

    def _look(self, item_ids: Iterable[str] = (), *, whole: bool = False) -> None:
        self._changed.update(item_ids)
        self._whole |= whole or len(self._changed) > _CHANGED_MAX
        if self._whole:
            self._changed.clear()
        self.settled = False
        self._wanted.set()

    async def run(self) -> None:
        """Publish what is missing, whenever something may be, for ever."""
        topic_partitions = await self._producer.partitions(self._topic)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            whole, self._whole = self._whole, False
            changed, self._changed = self._changed, set()
            try:
                if whole:
                    await self._unmark_left()
                slices = self._catalogue_slices() if whole else self._slices_of(changed)
                await self._publish_missing(slices, topic_partitions)
            except (EncoderFailed, DeliveryFailed) as error:
                log.warning("Item vectors not published yet: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._look(changed, whole=whole)
            else:
                self.settled = not self._wanted.is_set()

    async def _unmark_left(self) -> None:
        """Drop the marks of partitions that were others', all of them before anything is made."""
        left, self._left = self._left, set()
        for item_ids in _sliced(self._catalogue.marked() if left else ()):
            self._catalogue.unmark(each for each in item_ids if self._owner(each) in left)
            await asyncio.sleep(0)

    def _catalogue_slices(self) -> Iterator[list[tuple[str, str]]]:
        return _sliced(self._catalogue.items())

    def _slices_of(self, item_ids: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
        for some in _sliced(item_ids):
            texts = zip(some, self._catalogue.texts(some), strict=True)
            yield [(item_id, text) for item_id, text in texts if text is not None]

    async def _publish_missing(
        self, slices: Iterable[list[tuple[str, str]]], topic_partitions: int
    ) -> None:
        """Publish what of these (item id, text) is ours and not published as it is now."""
        assignments = self._assignments
        self._chunk.clear()
        for some in slices:
            for item_id, mark in self._missing(some):
                self._chunk[item_id] = mark
                if len(self._chunk) == _CHUNK_ITEMS:
                    await self._publish_chunk(topic_partitions)
            await asyncio.sleep(0)
            if assignments != self._assignments:
                return  # want() came: all is looked at anew
        if self._chunk:
            await self._publish_chunk(topic_partitions)

    def _missing(self, items: Sequence[tuple[str, str]]) -> list[tuple[str, bytes]]:
        """Return (item id, mark) of those that are ours and not published as they are now."""
        ours = self._ours()
        mine = [(item_id, text) for item_id, text in items if self._owner(item_id) in ours]
        item_ids = [item_id for item_id, _ in mine]
        media = self._catalogue.media(item_ids)
        marks = [self._mark(text, vector) for (_, text), vector in zip(mine, media, strict=True)]
        published = self._catalogue.published(item_ids)
        each = zip(item_ids, marks, published, strict=True)
        return [(item_id, mark) for item_id, mark, before in each if mark != before]

    def _ours(self) -> set[int]:
        return {partition.number for partition in self._partitions()}

    def _owner(self, item_id: str) -> int:
        """Return the source partition whose owner publishes the item."""
        return partition_of(item_id.encode(), self._source_partitions)

    def _mark(self, text: str, media: Float32 | None) -> bytes:
        digest = hashlib.blake2b(text.encode(), digest_size=8)
        digest.update(self._model_id.encode())
        if media is not None:
            digest.update(media.tobytes())
        return digest.digest()

    async def _publish_chunk(self, topic_partitions: int) -> None:
        """Publish the chunk and mark it: what was sent, and what no vector can be made of.

        Without what has gone since it was looked at: gone later, :meth:`changed` takes it out.
        """
        looked_at = list(self._chunk)
        for item_id, text in zip(looked_at, self._catalogue.texts(looked_at), strict=True):
            if text is None:
                del self._chunk[item_id]
        item_ids, vectors = await self._encoder.item_vectors(list(self._chunk))
        batches: dict[int, list[tuple[str, Float32]]] = {}
        for item_id, vector in zip(item_ids, vectors, strict=True):
            number = partition_of(item_id.encode(), topic_partitions)
            batches.setdefault(number, []).append((item_id, vector))
        for number, made in batches.items():
            ours = self._ours()  # it takes its time, and behind a new owner's we must not write
            for item_id, _ in made:
                if self._owner(item_id) not in ours:
                    self._chunk.pop(item_id, None)
            records = [self._record(*each) for each in made if self._owner(each[0]) in ours]
            if records:
                await self._producer.send(self._topic, number, records, allowed=self._lease.is_held)
                self._counts.item_vectors_published += len(records)
        self._catalogue.mark_published(self._chunk.items())
        self._chunk.clear()

    def _record(self, item_id: str, vector: Float32) -> OutRecord:
        value = orjson.dumps(
            {"item_id": item_id, "vector": vector, "model_id": self._model_id},
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        return OutRecord(item_id.encode(), value, [("model_id", self._model_id.encode())])


def _sliced(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, _SLICE_ITEMS)):
        yield some
