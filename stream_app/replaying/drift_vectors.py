"""The newest vector of every user, of a topic: a sample of them as arrays, and counts of all."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple
from zlib import crc32

import numpy as np

from encoders.interface import Float32
from stream_app.reader import read
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end

_HASHES = 1 << 32


class UserVectors(NamedTuple):
    """A user's newest update, in little space."""

    applied_offset: int
    model_id: str
    vector: Float32
    granularities: dict[str, Float32]


class Population:
    """Users of one topic: all counted, and those of the smallest hashes kept as arrays.

    Two populations that keep by hash keep the same users, whatever else differs.
    """

    def __init__(self, most_users: int) -> None:
        self._most_users = most_users
        self.below = _HASHES
        """Users whose hash is lower are kept."""
        self.kept: dict[str, UserVectors] = {}
        self.model_of: dict[str, str] = {}
        """User -> model of the newest update; all users."""
        self._offsets: dict[str, int] = {}

    @property
    def models(self) -> Counter[str]:
        """Users by model."""
        return Counter(self.model_of.values())

    async def read(self, settings: Settings) -> None:
        """Read the updates topic of these settings to its end, by the reader's rule."""
        async with open_consumer(settings.kafka, settings.updates_topic) as consumer:
            async for record in to_the_end(consumer):
                change = read(record)
                user = change.user_id
                if change.applied_offset < self._offsets.get(user, -1):
                    continue
                self._offsets[user] = change.applied_offset
                update = change.update
                if update is None:
                    self.model_of.pop(user, None)
                    self.kept.pop(user, None)
                    continue
                self.model_of[user] = update.model_id
                if user_hash(user) < self.below:
                    self.kept[user] = UserVectors(
                        update.applied_offset,
                        update.model_id,
                        np.array(update.vector, np.float32),
                        {k: np.array(v, np.float32) for k, v in update.granularities.items()},
                    )
                    self._thin_out()

    def _thin_out(self) -> None:
        while len(self.kept) > self._most_users:
            self.below //= 2
            self.kept = {u: v for u, v in self.kept.items() if user_hash(u) < self.below}


def user_hash(user: str) -> int:
    """Return 0 to 2^32 - 1, evenly spread."""
    return crc32(user.encode())
