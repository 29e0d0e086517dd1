"""Vectors of recomputed windows, in micro-batches, against those that were published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from encoders.interface import EncoderInfo, Float32
from state.window import Window
from stream_app.encoded import Result
from stream_app.encoding import WindowEncoder
from stream_app.replaying.verification_published import Published, parts_digest, vector_digest
from stream_app.replaying.verification_walk import ToEncode


class OtherVector(NamedTuple):
    """An update whose vector is not bit for bit the one that its window gives."""

    published: Published
    window: Window
    vector: Float32 | None
    """[D] ours; None where no vector can be made of the window."""


class VectorCheck:
    """Encodes while the caller goes on folding: one micro-batch is under way at a time."""

    def __init__(
        self, encoder: WindowEncoder, info: EncoderInfo, *, most_users: int, most_kept: int | None
    ) -> None:
        """``most_kept``: of those that differ, to be looked into; the others are counted."""
        self._encoder = encoder
        self._order = np.argsort(np.array(info.granularities))
        self._most_users = most_users
        self._waiting: list[ToEncode] = []
        self._under_way: asyncio.Task[None] | None = None
        self._most_kept = most_kept
        self.others: list[OtherVector] = []
        """What differs; whoever looks into it takes it away."""
        self.more_others = 0
        """What differs, too, and was not kept."""

    async def put(self, more: Sequence[ToEncode]) -> None:
        """Take up what is to be encoded, waiting while too much is."""
        self._waiting += more
        while len(self._waiting) >= self._most_users:
            await self._next_batch()

    async def settle(self) -> None:
        """Encode and compare all that was put."""
        while self._waiting:
            await self._next_batch()
        await self._done()

    async def _next_batch(self) -> None:
        await self._done()
        batch = self._waiting[: self._most_users]
        self._waiting = self._waiting[self._most_users :]
        self._under_way = asyncio.create_task(self._compare(batch))

    async def _done(self) -> None:
        if self._under_way is not None:
            await self._under_way
            self._under_way = None

    async def _compare(self, batch: Sequence[ToEncode]) -> None:
        encoded = await self._encoder.encode([each.window for each in batch])
        for (published, window), result in zip(batch, encoded.rows(), strict=True):
            if self._same(published, window, result):
                continue
            if self._most_kept is None or len(self.others) < self._most_kept:
                self.others.append(OtherVector(published, window, result.vector))
            else:
                self.more_others += 1

    def _same(self, published: Published, window: Window, ours: Result) -> bool:
        """Compare all that the update carries and we have: settings say what we have."""
        half = published.half
        if ours.vector is None:
            return False
        vector = vector_digest(ours.vector, window.times_ms[-1], len(window), half=half)
        parts = None if ours.granularities is None else ours.granularities[self._order]
        return (
            vector == published.digest
            and _same_parts(parts, published.granularities, half=half)
            and _same_parts(ours.several, published.interests, half=half)
        )


def _same_parts(ours: Float32 | None, published: bytes, *, half: bool) -> bool:
    return ours is None or not published or parts_digest(ours, half=half) == published
