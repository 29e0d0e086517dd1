"""What a million users cost: python -m benchmarks.million_users, about ten minutes.

The windows are made by the fold and written to the changelog by the worker's own producer, one
record per user, which is what compaction leaves of a stream that has run for years. From there on
everything is the worker: it restores a million windows with an empty disk, is stopped, started
again with its disk, and then gets events of more users than it may keep in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from benchmarks.soak.people import ITEMS, catalogue
from benchmarks.soak.sampling import disk_bytes
from benchmarks.soak.scene import SoakWorker
from encoders.config import VectorFormat
from encoders.interface import GRANULARITIES
from state import codec
from state.event import Event, EventType
from state.window import Window, WindowPolicy, fold
from stream_app import topics
from stream_app.kafka_server import KafkaServer
from stream_app.producer import BatchProducer, OutRecord
from stream_app.sender import open_sender
from stream_app.settings import Settings
from stream_app.topics import open_admin, partition_of
from stream_app.updates import UpdateEncoder, UpdateFormat

EVENTS_PER_USER = 20
_PARTITIONS = 8
_BASE_MS = 1_790_000_000_000
_DAY_MS = 86_400_000
_CHUNK_USERS = 2_000
_DIMENSIONS = 384
_FORMATS: tuple[tuple[UpdateFormat, VectorFormat], ...] = (
    ("json", "float32"), ("json", "float16"), ("avro", "float32"), ("avro", "float16"),
)  # fmt: skip
_TYPES = (EventType.VIEW, EventType.VIEW, EventType.VIEW, EventType.CLICK, EventType.PURCHASE)
_MIB = 1 << 20
_TO_THE_END = -1
_HOT = "hot"
"""The name of events of the users whose windows were made; others are of nobody's."""


def window_of(user: int) -> Window:
    """Return a user's window: four sessions of five events within a month, one a search."""
    window: Window | None = None
    for number in range(EVENTS_PER_USER):
        mixed = (user * EVENTS_PER_USER + number) * 0x9E3779B97F4A7C15 % (1 << 64)
        session = number // 5
        time_ms = _BASE_MS - (4 - session) * 6 * _DAY_MS + number * 40_000 + mixed % 30_000
        search = number % 20 == 10
        event = Event(
            event_id=f"{mixed:016x}",
            user_id="",
            type=EventType.SEARCH if search else _TYPES[mixed % 5],
            item_id=None if search else f"i{mixed % ITEMS}",
            text=f"something like number {mixed % 1000}" if search else None,
            time_ms=time_ms,
            session_id=f"{user % 1000:03d}-{session}",
            dwell_ms=mixed % 60_000,
        )
        window, _ = fold(window, event, number, WindowPolicy())
    assert window is not None
    return window


def user_key(user: int) -> bytes:
    """Return a user's id, as long as many services' are."""
    return b"user-%08d" % user


async def _fill(bootstrap: str, topic: str, first: int, users: int) -> None:
    producer = BatchProducer(bootstrap, 120)
    await producer.start([topic])
    try:
        for start in range(first, first + users, _CHUNK_USERS):
            shares: dict[int, list[OutRecord]] = {}
            for user in range(start, min(start + _CHUNK_USERS, first + users)):
                key = user_key(user)
                row = OutRecord(key, codec.encode(window_of(user)))
                shares.setdefault(partition_of(key, _PARTITIONS), []).append(row)
            await asyncio.gather(*(producer.send(topic, at, rows) for at, rows in shares.items()))
    finally:
        await producer.stop()


def fill(bootstrap: str, topic: str, first: int, users: int) -> None:
    """Write the changelog records of some users."""
    asyncio.run(_fill(bootstrap, topic, first, users))


def sample_updates(random: np.random.Generator, users: int) -> dict[str, list[OutRecord]]:
    """Return the updates of some users with vectors in random directions, by format."""
    vectors = random.standard_normal((users, _DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = [0.0] * (len(GRANULARITIES) - 1) + [1.0]
    found: dict[str, list[OutRecord]] = {}
    for update_format, numbers in _FORMATS:
        encoder = UpdateEncoder(
            update_format, "21a4ced65ee2c870", "interest.events", GRANULARITIES, weights, numbers
        )
        found[f"{update_format} {numbers}"] = [
            OutRecord(
                user_key(user),
                encoder.encode(user_key(user).decode(), vectors[user], None, _BASE_MS, 0, user, 20),
                encoder.headers(user),
            )
            for user in range(users)
        ]
    return found


async def _publish_items(settings: Settings) -> None:
    async with open_sender(settings.bootstrap_servers) as sender:
        for key, value in catalogue():
            await sender.send(settings.items_topic, key, value)


async def _delete_events(settings: Settings) -> None:
    """Let retention have been there: what the windows were made of is not in the log."""
    async with open_admin(settings.kafka) as admin:
        parts = [TopicPartition(settings.events_topic, at) for at in range(settings.partitions)]
        await admin.delete_records({part: RecordsToDelete(_TO_THE_END) for part in parts})


async def _play(settings: Settings, users: range, name: str) -> None:
    async with open_sender(settings.bootstrap_servers) as sender:
        for key, value in _events(users, name):
            await sender.send(settings.events_topic, key, value)


def _events(users: range, name: str) -> Iterator[tuple[bytes, bytes]]:
    for user in users:
        key = user_key(user)
        yield (
            key,
            msgspec.json.encode(
                {
                    "event_id": f"{name}{user}",
                    "user_id": key.decode(),
                    "type": "view",
                    "item_id": f"i{user % ITEMS}",
                    "time_ms": _BASE_MS + 1_000,
                }
            ),
        )


class Million:
    """The steps, and what each gave."""

    def __init__(self, users: int, folder: Path, bootstrap: str) -> None:
        self._users = users
        self._data = folder / "kafka" / "data"
        self._raw: dict[str, object] = {
            "bootstrap_servers": bootstrap, "partitions": _PARTITIONS, "app_id": "million",
        }  # fmt: skip
        self._settings = Settings(**self._raw)  # type: ignore[arg-type]
        self._worker = SoakWorker("worker", folder, self._raw)
        self.found: dict[str, Any] = {"users": users, "events_per_user": EVENTS_PER_USER}

    def run(self) -> dict[str, Any]:
        """Do it all."""
        settings = self._settings
        asyncio.run(topics.create(settings))
        asyncio.run(_publish_items(settings))
        # The windows include 20 source records, so events have to lie behind as many.
        others = range(self._users, self._users + 100 * _PARTITIONS)
        asyncio.run(_play(settings, others, "f"))
        self._start("start_without_windows_s")
        self._wait_folded(len(others))
        self.found["memory_without_windows_mib"] = self._memory_mib()
        self._worker.stop()
        self._fill_changelog()
        asyncio.run(_delete_events(settings))
        shutil.rmtree(self._worker.datadir / "faust")  # the texts' vectors stay
        self._start("start_from_changelog_s")
        self.found["memory_restored_mib"] = self._memory_mib()
        self._worker.stop()
        self._per_user("rocksdb", [self._worker.datadir / "faust"])
        self._start("start_with_its_disk_s")
        self._per_user("rocksdb_after_restart", [self._worker.datadir / "faust"])
        self._heat()
        self._worker.stop()
        return self.found

    def _fill_changelog(self) -> None:
        began_s = time.monotonic()
        half = self._users // 2
        topic = self._settings.changelog_topic
        before = self._topic_bytes(topic)
        with ProcessPoolExecutor(2) as pool:
            jobs = [
                pool.submit(fill, self._settings.bootstrap_servers, topic, first, count)
                for first, count in ((0, half), (half, self._users - half))
            ]
            for job in jobs:
                job.result()
        self.found["fill_s"] = time.monotonic() - began_s
        self.found["changelog_bytes_per_user"] = (self._topic_bytes(topic) - before) / self._users

    def _topic_bytes(self, topic: str) -> int:
        logs = self._data.glob(f"{topic}-*/*.log")
        return sum(log.stat().st_size for log in logs)

    def _start(self, name: str) -> None:
        began_s = time.monotonic()
        self._worker.start().wait(lambda status: status["state"] == "running", "windows", 900)
        self.found[name] = time.monotonic() - began_s
        self._say(name)

    def _heat(self) -> None:
        """Events of a quarter more users than windows may be kept in memory."""
        users = min(self._users, self._settings.hot_windows_max * 5 // 4)
        updates = self._topic_bytes(self._settings.updates_topic)
        before = self._worker.status()["counts"]["records"]
        asyncio.run(_play(self._settings, range(users), _HOT))
        self._wait_folded(before + users)
        status = self._worker.status()
        published = self._topic_bytes(self._settings.updates_topic) - updates
        self.found["updates_json_bytes_per_user"] = published / users
        self.found["windows_in_memory"] = status["users_hot"]
        self.found["memory_hot_mib"] = self._memory_mib()
        self.found["rocksdb_memory_mib"] = status["rocksdb_memory_bytes"] / _MIB
        self.found["texts_encoded"] = status["counts"]["texts_encoded"]

    def _wait_folded(self, records: int) -> None:
        self._worker.wait(
            lambda status: status["counts"]["records"] >= records and not status["dirty"],
            f"{records} records folded and stored",
            900,
        )

    def _memory_mib(self) -> dict[str, float]:
        encoder = psutil.Process(self._worker.status()["encoder_pid"])
        return {
            "worker": psutil.Process(self._worker.pid).memory_full_info().pss / _MIB,
            "encoder": encoder.memory_full_info().pss / _MIB,
        }

    def _per_user(self, name: str, folders: list[Path]) -> None:
        self.found[f"{name}_bytes_per_user"] = disk_bytes(folders) / self._users
        self._say(f"{name}_bytes_per_user")

    def _say(self, name: str) -> None:
        print(f"{name} {self.found[name]:,.1f}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million_users", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interest-million-") as name:
        folder = Path(name)
        with KafkaServer(folder / "kafka") as kafka:
            million = Million(arguments.users, folder, kafka.bootstrap)
            print(json.dumps(million.run(), indent=1))


if __name__ == "__main__":
    main()
