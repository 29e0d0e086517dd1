"""Item vectors on their topic, each made and published by one worker.

An item belongs to the worker that holds the source partition its id hashes to, as a user's key
would. What was published, of which text and by which model, is marked in the catalogue's database,
so a restart publishes nothing twice; a new owner publishes its share once more, which changes
nothing for a reader.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import orjson

from encoders.interface import Float32
from stream_app.catalogue import Catalogue
from stream_app.encoder_process import EncoderFailed
from stream_app.encoding import WindowEncoder
from stream_app.partition import Partition
from stream_app.producer import BatchProducer, DeliveryFailed, OutRecord
from stream_app.status import Counts
from stream_app.topics import partition_of

log = logging.getLogger("stream_app.item_vectors")

_CHUNK_ITEMS = 32
"""Published at once."""
_SCAN_ITEMS = 1000
_RETRY_S = 1.0


class ItemVectors:
    """Publishes the vectors of the items that are this worker's share."""

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: WindowEncoder,
        producer: BatchProducer,
        partitions: Callable[[], Iterable[Partition]],
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
        self._counts = counts
        self._topic = topic
        self._model_id = model_id
        self._source_partitions = source_partitions
        self._wanted = asyncio.Event()
        self.settled = False
        """Whether our share of the catalogue, as it is now, is published."""

    def want(self) -> None:
        """Say that the catalogue or our share of it has changed."""
        self.settled = False
        self._wanted.set()

    async def run(self) -> None:
        """Publish what is missing, whenever something may be, for ever."""
        topic_partitions = await self._producer.partitions(self._topic)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                for chunk in self._missing():
                    await self._publish(chunk, topic_partitions)
            except (EncoderFailed, DeliveryFailed) as error:
                log.warning("Item vectors not published yet: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._wanted.set()
            else:
                self.settled = not self._wanted.is_set()

    def _missing(self) -> Iterator[list[tuple[str, bytes]]]:
        """Yield chunks of (item id, mark) that are ours and not published as they are now."""
        chunk: list[tuple[str, bytes]] = []
        items = self._catalogue.items()
        while some := list(islice(items, _SCAN_ITEMS)):
            ours = {partition.number for partition in self._partitions()}
            mine = [
                (item_id, text)
                for item_id, text in some
                if partition_of(item_id.encode(), self._source_partitions) in ours
            ]
            media = self._catalogue.media([item_id for item_id, _ in mine])
            mine_marked = [
                (item_id, self._mark(text, vector))
                for (item_id, text), vector in zip(mine, media, strict=True)
            ]
            marks = self._catalogue.published([item_id for item_id, _ in mine])
            for (item_id, mark), published in zip(mine_marked, marks, strict=True):
                if mark != published:
                    chunk.append((item_id, mark))
                if len(chunk) == _CHUNK_ITEMS:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _mark(self, text: str, media: Float32 | None) -> bytes:
        digest = hashlib.blake2b(text.encode(), digest_size=8)
        digest.update(self._model_id.encode())
        if media is not None:
            digest.update(media.tobytes())
        return digest.digest()

    async def _publish(self, chunk: Sequence[tuple[str, bytes]], topic_partitions: int) -> None:
        item_ids, vectors = await self._encoder.item_vectors([item_id for item_id, _ in chunk])
        batches: dict[int, list[OutRecord]] = {}
        for item_id, vector in zip(item_ids, vectors, strict=True):
            value = orjson.dumps(
                {"item_id": item_id, "vector": vector, "model_id": self._model_id},
                option=orjson.OPT_SERIALIZE_NUMPY,
            )
            record = OutRecord(item_id.encode(), value, [("model_id", self._model_id.encode())])
            batches.setdefault(partition_of(record.key or b"", topic_partitions), []).append(record)
        for number, records in batches.items():
            await self._producer.send(self._topic, number, records)
        self._catalogue.mark_published(chunk)
        self._counts.item_vectors_published += len(item_ids)
