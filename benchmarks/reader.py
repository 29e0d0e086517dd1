"""What it costs a reader to take up a topic from its beginning: CPU time and memory.

``python -m benchmarks.reader [--users 100000] [--dimensions 384]`` starts a Kafka of its own, or
uses ``KAFKA_BOOTSTRAP``, writes one update a user in each format, and prints JSON. Rounds go
through the formats in turn, each reading in a process of its own. Time is the reader's CPU time,
the client library's included, so that a busy machine hardly matters; elapsed time is given, too.
Beside every reading stands one of the same records by plain aiokafka, without looking at them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.broker import Broker
from benchmarks.workload import Record, user_id, user_partitions
from stream_app.followed_topic import FollowedTopic
from stream_app.kafka_server import open_kafka
from stream_app.reader import UpdatesReader
from stream_app.updates import UpdateEncoder, decode

PARTITIONS = 4
FORMATS = [
    (update_format, vectors)
    for update_format in ("json", "avro")
    for vectors in ("float32", "float16")
]
_MODEL_ID = "21a4ced65ee2c870"
_GRANULARITIES = ("word", "sentence", "paragraph", "document")
_DECODED_ALONE = 5_000
Measured = dict[str, float]


def run(users: int, dimensions: int, rounds: int) -> dict[str, object]:
    """Return, per format, what a reader of ``users`` updates takes."""
    with tempfile.TemporaryDirectory() as folder, open_kafka(Path(folder) / "kafka") as bootstrap:
        for update_format, vectors in FORMATS:
            records = _updates(update_format, vectors, users, dimensions)
            asyncio.run(_fill(bootstrap, _topic(update_format, vectors), records))
        found: dict[str, list[Measured]] = {}
        for _ in range(rounds):
            for update_format, vectors in FORMATS:
                topic = _topic(update_format, vectors)
                found.setdefault(topic, []).append(_measured(bootstrap, topic, users))
    return {
        "users": users,
        "dimensions": dimensions,
        "rounds": rounds,
        "formats": {
            topic: _medians(each) | _alone(*topic.split("-"), dimensions)
            for topic, each in found.items()
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("aiokafka", "msgspec", "numpy")},
        },
    }


def _topic(update_format: str, vectors: str) -> str:
    return f"{update_format}-{vectors}"


def _updates(update_format: Any, vectors: Any, users: int, dimensions: int) -> Iterator[Record]:
    encoder = UpdateEncoder(
        update_format, _MODEL_ID, "interest.events", _GRANULARITIES, (0, 0, 0, 1), vectors
    )
    random = np.random.default_rng(0)
    for number, place in enumerate(user_partitions(users, PARTITIONS)):
        vector = random.normal(size=dimensions).astype(np.float32)
        vector /= np.linalg.norm(vector)
        name = user_id(number)
        value = encoder.encode(name, vector, None, 1_789_990_000_000 + number, place, number, 50)
        yield Record(place, name.encode(), value)


async def _fill(bootstrap: str, topic: str, records: Iterator[Record]) -> None:
    async with Broker(bootstrap) as broker:
        await broker.create([topic], PARTITIONS)
        await broker.fill(topic, records)


def _measured(bootstrap: str, topic: str, users: int) -> Measured:
    plain = _in_a_process(_read_plainly, bootstrap, topic, users)
    ours = _in_a_process(_read_by_the_reader, bootstrap, topic, users)
    return {
        "updates_per_cpu_s": users / ours["cpu_s"],
        "updates_per_elapsed_s": users / ours["elapsed_s"],
        "times_plain_aiokafka": ours["cpu_s"] / plain["cpu_s"],
        "bytes_per_user": ours["bytes"] / users,
    }


def _in_a_process(
    read: Callable[[str, str, int], Coroutine[Any, Any, Measured]], *arguments: Any
) -> Measured:
    """A fresh one, so that its memory is that reading's alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, read, arguments).result()


def _run(
    read: Callable[..., Coroutine[Any, Any, Measured]], arguments: tuple[Any, ...]
) -> Measured:
    return asyncio.run(read(*arguments))


class _Clocks:
    """CPU time of this process, its threads included, and the wall's."""

    def __init__(self) -> None:
        self._cpu_s, self._elapsed_s = time.process_time(), time.perf_counter()

    def read(self) -> Measured:
        return {
            "cpu_s": time.process_time() - self._cpu_s,
            "elapsed_s": time.perf_counter() - self._elapsed_s,
        }


async def _read_plainly(bootstrap: str, topic: str, users: int) -> Measured:
    async with FollowedTopic(bootstrap, topic) as followed:
        clocks, count = _Clocks(), 0
        while count < users:
            count += len(await followed.records(1))
        return clocks.read()


async def _read_by_the_reader(bootstrap: str, topic: str, users: int) -> Measured:
    async with UpdatesReader(bootstrap, topic) as reader:
        before, clocks = psutil.Process().memory_info().rss, _Clocks()
        await reader.catch_up()
        taken = clocks.read()
        if len(reader.updates) != users:
            raise AssertionError(f"{len(reader.updates)} users read of {users}")
        return taken | {"bytes": psutil.Process().memory_info().rss - before}


def _medians(rounds: list[Measured]) -> Measured:
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}


def _alone(update_format: str, vectors: str, dimensions: int) -> Measured:
    """Return the size of an update, and how many are decoded without any Kafka."""
    (record,) = _updates(update_format, vectors, 1, dimensions)
    clocks = _Clocks()
    for _ in range(_DECODED_ALONE):
        decode(record.value)
    return {
        "value_bytes": len(record.value),
        "decoded_alone_per_cpu_s": round(_DECODED_ALONE / clocks.read()["cpu_s"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.users, arguments.dimensions, arguments.rounds), indent=2))


if __name__ == "__main__":
    main()
