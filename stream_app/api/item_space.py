"""The vectors of all items, as the item-vectors topic has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import msgspec
import numpy as np
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from stream_app.api.vector_table import VectorTable
from stream_app.errors import InterestStreamError
from stream_app.followed_topic import FollowedTopic
from stream_app.settings import Settings

log = logging.getLogger("stream_app.api")

_SLICE_RECORDS = 64
"""Decoded before the event loop may run something else: about 1 ms of JSON."""
_POLL_S = 1.0
_RETRY_S = 5.0
_FIRST_READ_S = 3.0
"""How long a first request waits for the reading that it has set off."""


class _ItemVector(msgspec.Struct):
    item_id: str
    vector: list[float]
    model_id: str


_decode = msgspec.json.Decoder(_ItemVector).decode


class ItemSpace:
    """Follows the topic from the first request on that needs it: who never asks pays nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wanted = asyncio.Event()
        self._complete = asyncio.Event()
        self._table: VectorTable | None = None
        self.model_id = ""

    @property
    def held(self) -> int:
        """Items whose vectors are held."""
        return len(self._table) if self._table is not None else 0

    @property
    def complete(self) -> bool:
        """Whether the topic has once been read to its end."""
        return self._complete.is_set()

    def begin(self, model_id: str, dimensions: int) -> None:
        """Say whose vectors are wanted, once the model is known."""
        self.model_id = model_id
        self._table = VectorTable(dimensions, self._settings.api_items_max)

    async def table(self) -> VectorTable:
        """Return the vectors; a first call waits a moment for them."""
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_READ_S):
                await self._complete.wait()
        assert self._table is not None, "asked for before begin()"
        return self._table

    async def follow(self) -> None:
        """Read the topic, for ever; what is in its way is said in the log and tried again."""
        await self._wanted.wait()
        while True:
            try:
                await self._follow()
            except (InterestStreamError, KafkaError) as error:
                log.warning("Item vectors for the API not read, trying again: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        topic = FollowedTopic(self._settings.kafka, self._settings.item_vectors_topic)
        async with topic:
            ends = await topic.ends()
            while True:
                records = await topic.records(_POLL_S)
                for start in range(0, len(records), _SLICE_RECORDS):
                    self.take(records[start : start + _SLICE_RECORDS])
                    await asyncio.sleep(0)
                if not self.complete and not await topic.behind(ends):
                    self._complete.set()

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Take up records, oldest first; those of other models and those that are none are not."""
        assert self._table is not None, "begin() comes first"
        latest: dict[str, list[float] | None] = {}
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            vector = None if record.value is None else self._vector(record.value)
            if record.value is None or vector is not None:
                latest.pop(key, None)
                latest[key] = vector
        for key, vector in latest.items():
            if vector is None:
                self._table.remove(key)
        kept = {key: vector for key, vector in latest.items() if vector is not None}
        self._table.put(list(kept), np.array(list(kept.values()), np.float32))

    def _vector(self, value: bytes) -> list[float] | None:
        assert self._table is not None, "begin() comes first"
        try:
            item = _decode(value)
        except msgspec.MsgspecError:
            return None  # the topic is ours; whatever it is, it is no vector
        is_ours = item.model_id == self.model_id and len(item.vector) == self._table.dimensions
        return item.vector if is_ours else None
