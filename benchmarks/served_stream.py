"""Play all events through a real worker, and keep what was published before each of the last ones.

The history is played as fast as the worker takes it. The test period is played in waves, one event
of every user each: the next wave is sent when the updates of the one before have been read. So the
vector that a reader holds before an event includes the user's event before it, and nothing more.
Waves mix the time order of different users, which changes no vector: a user's depends on their own
events alone.

Legend: T events of the test period, N items, D dimensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from encoders.evaluation.interactions import NO_ITEM, Interactions
from encoders.interface import Float32
from state.event import WINDOW_TYPES
from stream_app import topics
from stream_app.demo_worker import Child, read_status
from stream_app.errors import FixData, RestartWorker
from stream_app.reader import Change, UpdatesReader
from stream_app.sender import Sender, open_sender
from stream_app.settings import Settings
from stream_app.topics import partition_of
from stream_app.user_view import read_item_space

_START_S = 300.0
"""For the models to load and 4,000 texts to be embedded, on a machine that does other work, too."""
_SILENCE_S = 120.0
"""Without any update, while some are owed: the worker is not at work."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """What the topics said."""

    vectors: Float32
    """[T, D] what was published of an event's user just before the event was sent; zero where
    nothing was."""
    exact: int
    """Of them, those with the very applied_offset of the user's event before (or without any, where
    there is none)."""
    items: Float32
    """[N, D] of the item vectors' topic."""
    model_id: str
    waves: int
    history_s: float
    waves_s: float
    updates_read: int


class _Ledger:
    """Which source offset each user's last sent event has: the topic is ours alone, so a
    partition's offsets are counted."""

    def __init__(self, partitions: int) -> None:
        self._next = [0] * partitions
        self.last: dict[str, int] = {}
        """Offset by user."""

    def sent(self, user_id: str) -> None:
        partition = partition_of(user_id.encode(), len(self._next))
        self.last[user_id] = self._next[partition]
        self._next[partition] += 1


class _Updates:
    """The updates topic as a reader follows it, and how to wait for what is owed."""

    def __init__(self, reader: UpdatesReader, worker: Child) -> None:
        self.latest = reader.updates
        self._changes: AsyncIterator[Change] = aiter(reader)
        self._worker = worker
        self.read = 0

    async def wait_for(self, offsets: dict[str, int]) -> None:
        """Read until every user's update includes their offset.

        Raises:
            DemoFailed: the worker has ended.
            RestartWorker: it lives and publishes nothing.
        """
        owed = {
            user: offset
            for user, offset in offsets.items()
            if user not in self.latest or self.latest[user].applied_offset < offset
        }
        while owed:
            try:
                change = await asyncio.wait_for(anext(self._changes), _SILENCE_S)
            except TimeoutError:
                self._worker.check_alive()
                raise RestartWorker(f"no update for {_SILENCE_S:.0f} s, {len(owed)} owed") from None
            self.read += 1
            if change.applied_offset >= owed.get(change.user_id, 1 << 62):
                del owed[change.user_id]


async def play(
    data: Interactions, start: int, settings: Settings, directory: Path, say: Say
) -> Served:
    """Publish catalogue and events (in time order), with a worker on them; return what it said.

    Raises:
        FixData: an event is about no item of the catalogue.
        DemoFailed, RestartWorker: the worker did not do its work.
    """
    if (data.items == NO_ITEM).any():
        raise FixData("every event must name an item of the catalogue here")
    await topics.create(settings)
    ledger = _Ledger(settings.partitions)
    async with (
        open_sender(settings.bootstrap_servers) as sender,
        _worker(data, sender, settings, directory, say) as worker,
        UpdatesReader(settings.bootstrap_servers, settings.updates_topic) as reader,
    ):
        updates = _Updates(reader, worker)
        began = time.monotonic()
        await _send(data, range(start), sender, settings.events_topic, ledger)
        say(f"sent {start:,} events of the history; waiting for their updates")
        await updates.wait_for(ledger.last)
        history_s = time.monotonic() - began
        say(f"all taken up after {history_s:.0f} s; playing {len(data) - start:,} events in waves")
        model_id = str(read_status(settings)["model_id"])
        space = await read_item_space(settings, model_id)
        vectors = np.zeros((len(data) - start, space.vectors.shape[1]), np.float32)
        exact = waves = 0
        began = time.monotonic()
        for wave in _waves(data, start):
            exact += _note(data, wave, start, updates, ledger, vectors)
            await _send(data, wave, sender, settings.events_topic, ledger)
            await updates.wait_for({user: ledger.last[user] for user in _users(data, wave)})
            waves += 1
        waves_s = time.monotonic() - began
    place = {item_id: at for at, item_id in enumerate(space.item_ids)}
    items = space.vectors[[place[item_id] for item_id in data.item_ids]]
    return Served(vectors, exact, items, model_id, waves, history_s, waves_s, updates.read)


def _note(
    data: Interactions, wave: Sequence[int], start: int, updates: _Updates, ledger: _Ledger,
    vectors: Float32,
) -> int:  # fmt: skip
    """Keep what a reader holds of the wave's users; return of how many it is the very last."""
    exact = 0
    for position, user in zip(wave, _users(data, wave), strict=True):
        held = updates.latest.get(user)
        if held is not None:
            vectors[position - start] = held.vector
        exact += (None if held is None else held.applied_offset) == ledger.last.get(user)
    return exact


def _waves(data: Interactions, start: int) -> Iterator[list[int]]:
    """Yield positions from ``start`` on, each user's next one in every wave."""
    of_user: dict[int, list[int]] = {}
    for position in range(start, len(data)):
        of_user.setdefault(int(data.users[position]), []).append(position)
    for number in range(max(map(len, of_user.values()))):
        yield sorted(held[number] for held in of_user.values() if number < len(held))


def _users(data: Interactions, positions: Sequence[int]) -> list[str]:
    return [data.user_ids[data.users[position]] for position in positions]


async def _send(
    data: Interactions, positions: Sequence[int], sender: Sender, topic: str, ledger: _Ledger
) -> None:
    for position in positions:
        user_id = data.user_ids[data.users[position]]
        event = {
            "event_id": f"{position:012d}",  # as in the evaluation: ties keep the order of the data
            "user_id": user_id,
            "type": WINDOW_TYPES[data.types[position]].value,
            "item_id": data.item_ids[data.items[position]],
            "time_ms": int(data.times_ms[position]),
        }
        await sender.send(topic, user_id.encode(), msgspec.json.encode(event))
        ledger.sent(user_id)
    await sender.settle()


@asynccontextmanager
async def _worker(
    data: Interactions, sender: Sender, settings: Settings, directory: Path, say: Say
) -> AsyncIterator[Child]:
    """Publish the catalogue, start a worker, and yield it when it has published all items."""
    for item_id, text in zip(data.item_ids, data.texts, strict=False):
        item = {"item_id": item_id, "text": text}
        await sender.send(settings.items_topic, item_id.encode(), msgspec.json.encode(item))
    await sender.settle()
    say(f"published {len(data.item_ids):,} items; starting a worker")
    worker = Child(["worker"], settings, directory / "worker.log")
    try:
        deadline = time.monotonic() + _START_S
        while _published_items(settings) < len(data.item_ids):
            worker.check_alive()
            if time.monotonic() > deadline:
                raise RestartWorker(f"no worker with all items after {_START_S:.0f} s")
            await asyncio.sleep(0.1)
        yield worker
    finally:
        worker.stop(settings.stop_timeout_s)


def _published_items(settings: Settings) -> int:
    counts: dict[str, int] = read_status(settings).get("counts", {})
    return counts.get("item_vectors_published", 0)
