"""What the topics say of one user, seen from the outside.

A user's key names the partition, so of the changelog and the updates one partition is read, not
all; the item vectors are read whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka.structs import ConsumerRecord

from state import codec, era
from state.window import Window
from stream_app.errors import FixData
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.topics import partition_count, partition_of
from stream_app.updates import Update, decode


class _ItemVector(msgspec.Struct):
    item_id: str
    vector: list[float]
    model_id: str


@dataclass(frozen=True)
class ItemSpace:
    """The item vectors of one model."""

    item_ids: list[str]
    vectors: npt.NDArray[np.float32]  # [N, D]

    def nearest(
        self, vector: npt.NDArray[np.float32], count: int, unwanted: frozenset[str] = frozenset()
    ) -> list[tuple[str, float]]:
        """Return the ``count`` items of the greatest dot product with ``vector`` [D], but
        not those that are ``unwanted``."""
        if not self.item_ids:
            return []
        scores = self.vectors @ vector
        best = (int(at) for at in np.argsort(-scores, kind="stable"))
        wanted = ((self.item_ids[at], float(scores[at])) for at in best)
        return [pair for pair in wanted if pair[0] not in unwanted][:count]


@dataclass(frozen=True)
class UserView:
    """A user's last window and update; either may be missing."""

    user_id: str
    partition: int
    window: Window | None
    update: Update | None


async def read_user(settings: Settings, user_id: str) -> UserView:
    """Return what the changelog and the updates topic hold of a user.

    Raises:
        FixData: neither knows the user.
        FixSettings, WaitForBroker: a topic is missing, the broker does not answer.
    """
    view = await look_up(settings, user_id)
    if view.window is None and view.update is None:
        raise FixData(f"user {user_id} is not known: no window and no update in p{view.partition}")
    return view


async def look_up(settings: Settings, user_id: str) -> UserView:
    """Return the same; of a user who is not known, neither.

    Raises:
        FixSettings, WaitForBroker: a topic is missing, the broker does not answer.
    """
    count = await partition_count(settings.kafka, settings.changelog_topic)
    partition = partition_of(user_id.encode(), count)  # that of their events
    key = settings.key_of(user_id)
    window: Window | None = None
    last_era = 0
    async for record in _of_key(settings, settings.changelog_topic, partition, key):
        found_era = era.of_headers(record.headers)
        if found_era < last_era:
            continue  # from before a rewind
        window = _newer(window if found_era == last_era else None, record.value)
        last_era = found_era
    update: Update | None = None
    async for record in _of_key(settings, settings.updates_topic, partition, key):
        if record.value is None:
            update = None
            continue
        found = decode(record.value)
        # The reader's rule: what is lower than what is held came late.
        if update is None or found.applied_offset >= update.applied_offset:
            update = found
    return UserView(user_id, partition, window, update)


async def read_item_space(settings: Settings, model_id: str) -> ItemSpace:
    """Return the vectors of all items that ``model_id`` made."""
    decode_item = msgspec.json.Decoder(_ItemVector).decode
    found: dict[str, list[float]] = {}
    topic = settings.item_vectors_topic
    async with open_consumer(settings.kafka, topic) as consumer:
        async for record in to_the_end(consumer):
            name = (record.key or b"").decode(errors="replace")
            item = decode_item(record.value) if record.value is not None else None
            if item is None:
                found.pop(name, None)
            elif item.model_id == model_id:
                found[item.item_id] = item.vector
    return ItemSpace(list(found), np.array(list(found.values()), dtype=np.float32))


def _newer(held: Window | None, stored: bytes | None) -> Window | None:
    """Return the later of two windows; a tombstone ends what went before."""
    if stored is None:
        return None
    try:
        found = codec.decode(stored)
    except codec.UnreadableWindow as error:
        raise FixData(f"the changelog holds {error}") from error
    return found if held is None or found.applied_offset >= held.applied_offset else held


async def _of_key(
    settings: Settings, topic: str, partition: int, key: bytes
) -> AsyncIterator[ConsumerRecord]:
    async with open_consumer(settings.kafka, topic, [partition]) as consumer:
        async for record in to_the_end(consumer):
            if record.key == key:
                yield record
