"""How long a partition gives no update while workers come and go: one probe user in each."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer

from stream_app.sender import Sender, open_sender
from stream_app.settings import Settings
from stream_app.topics import partition_of

PROBE_EVERY_S = 0.05
_SETTLE_S = 3.0
"""Before the act, for what is usual; after it, for the probes of the standstill to come out."""
_READER_WAIT_MS = 20


@dataclass(frozen=True)
class Standstill:
    """The longest time without an update of one partition, while something happened."""

    act: str
    workers: int
    usual_s: float
    """The same before the act."""
    longest_s: float
    """Of the partition that stood still longest."""
    median_s: float
    """Of the median partition: those that did not move are stopped by a rebalance, too."""


async def longest_standstill(
    settings: Settings, act: str, workers: int, happen: Callable[[], Awaitable[None]]
) -> Standstill:
    """Have every partition's probe user act twenty times a second while ``happen`` runs."""
    came: dict[int, list[float]] = {number: [] for number in range(settings.partitions)}
    reader = AIOKafkaConsumer(
        settings.updates_topic,
        bootstrap_servers=settings.bootstrap_servers,
        auto_offset_reset="latest",
        fetch_max_wait_ms=_READER_WAIT_MS,
    )
    await reader.start()
    try:
        await reader.getmany(timeout_ms=_READER_WAIT_MS)  # it knows its positions now
        async with open_sender(settings.bootstrap_servers) as sender:
            tasks = [
                asyncio.create_task(_probe(sender, settings)),
                asyncio.create_task(_read(reader, came)),
            ]
            await asyncio.sleep(_SETTLE_S)
            began_s = time.monotonic()
            await happen()
            await asyncio.sleep(_SETTLE_S)
            ended_s = time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await reader.stop()
    before = [_longest_gap_s(times, 0, began_s) for times in came.values()]
    during = sorted(_longest_gap_s(times, began_s, ended_s) for times in came.values())
    return Standstill(act, workers, max(before), during[-1], during[len(during) // 2])


def _longest_gap_s(times_s: list[float], from_s: float, to_s: float) -> float:
    """Return the longest time between two updates, of those that end or begin in the span."""
    inside = [at for at in times_s if from_s <= at <= to_s]
    edges = [at for at in times_s if at < from_s][-1:] if from_s else []
    line = [*edges, *inside, *([to_s] if from_s else [])]
    return max((after - at for at, after in itertools.pairwise(line)), default=0.0)


def probe_users(partitions: int) -> list[bytes]:
    """Return one user id per partition, in the partitions' order."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < partitions:
        key = b"probe%d" % number
        found.setdefault(partition_of(key, partitions), key)
        number += 1
    return [found[partition] for partition in range(partitions)]


async def _probe(sender: Sender, settings: Settings) -> None:
    users = probe_users(settings.partitions)
    while True:
        for key in users:
            event = {
                "event_id": f"{key.decode()}-{time.time_ns()}",
                "user_id": key.decode(),
                "type": "view",
                "item_id": "i1",
            }
            await sender.send(settings.events_topic, key, msgspec.json.encode(event))
        await asyncio.sleep(PROBE_EVERY_S)


async def _read(reader: AIOKafkaConsumer, came: dict[int, list[float]]) -> None:
    while True:
        fetched = await reader.getmany(timeout_ms=_READER_WAIT_MS)
        now_s = time.monotonic()
        for place, records in fetched.items():
            if records:
                came[place.partition].append(now_s)
