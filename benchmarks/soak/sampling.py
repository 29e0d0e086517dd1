"""What is looked at every few seconds: processes, files, the worker's own words, the load's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.soak.trend import Bound

_MIB = 1 << 20

BOUNDS = (
    Bound("worker memory (PSS)", "MiB", 0.15),
    Bound("worker memory (RSS)", "MiB", 0.15),
    Bound("encoder memory (PSS)", "MiB", 0.15),
    Bound("RocksDB memory", "MiB", 0.30),
    Bound("worker open files", "", 0.10, floor=50),
    Bound("worker threads", "", 0.10, floor=10),
    Bound("encoder open files", "", 0.10, floor=50),
    Bound("encoder threads", "", 0.10, floor=10),
    Bound("windows on disk", "MiB", 0.30, floor=8),
    Bound("text cache on disk", "MiB", 0.30, floor=8),
    Bound("changelog in Kafka", "MiB", 0.50, floor=64),
    Bound("updates in Kafka", "MiB", 0.50, floor=64),
    Bound("users with an update", "", 0.20, floor=100),
    Bound("windows in memory", "", 0.20, floor=100),
    Bound("event to update, p50", "ms", 1.0, floor=5),
    Bound("event to update, p99", "ms", 2.0, floor=50),
)
"""Memory may wobble by a seventh in an hour before it counts as a leak: the interval has to lie
beyond that as a whole. Kafka's cleaner lets a topic swing between once and twice its clean size,
on top of segments that are not full; latency is of the machine and of all that runs on it."""


@dataclass
class Series:
    """Values of one name by the seconds since the soak began."""

    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at_s: float, value: float) -> None:
        """Append one value."""
        self.times_s.append(round(at_s, 2))
        self.values.append(round(value, 3))


class Sampler:
    """Samples in a thread of its own until the block is left."""

    def __init__(
        self, epoch_s: float, every_s: float, sample: Callable[[], dict[str, float]]
    ) -> None:
        self._epoch_s = epoch_s
        self._every_s = every_s
        self._sample = sample
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.series: dict[str, Series] = {}
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            at_s = time.time() - self._epoch_s
            try:
                found = self._sample()
            except Exception as error:  # noqa: BLE001 - said by whoever waits for the soak
                self.failure = error
                return
            for name, value in found.items():
                self.series.setdefault(name, Series()).add(at_s, value)


def sample(
    worker_pid: int, datadir: Path, kafka_data: Path, topics: dict[str, str]
) -> dict[str, float]:
    """Return one value per series; ``topics``: series name -> topic."""
    status: dict[str, Any] = json.loads((datadir / "status.json").read_text())
    found = _process("worker", worker_pid)
    if status.get("encoder_pid"):
        found |= _process("encoder", int(status["encoder_pid"]))
    found["RocksDB memory"] = status["rocksdb_memory_bytes"] / _MIB
    found["windows in memory"] = status["users_hot"]
    found["windows on disk"] = disk_bytes([datadir / "faust"]) / _MIB
    found["text cache on disk"] = disk_bytes([datadir / "text-cache"]) / _MIB
    for name, topic in topics.items():
        found[name] = disk_bytes(kafka_data.glob(f"{topic}-*")) / _MIB
    found["expired"] = status["counts"]["expired"]
    found["partitions"] = len(status["partitions"])
    found["backlog"] = status["backlog"]
    return found


def _process(name: str, pid: int) -> dict[str, float]:
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    return {
        f"{name} memory (PSS)": memory.pss / _MIB,
        f"{name} memory (RSS)": memory.rss / _MIB,
        f"{name} open files": process.num_fds(),
        f"{name} threads": process.num_threads(),
    }


def disk_bytes(folders: Iterable[Path]) -> int:
    """Return what the folders take on disk, in whole blocks: preallocated indexes are sparse."""
    total = 0
    for folder in folders:
        for file in folder.rglob("*"):
            try:
                stat = file.lstat()
            except FileNotFoundError:  # compacted away between the listing and the look
                continue
            total += stat.st_blocks * 512
    return total


def of_load(lines: Path, epoch_s: float) -> dict[str, Series]:
    """Return the series that the load process has written."""
    fields = {
        "event to update, p50": "p50_ms",
        "event to update, p99": "p99_ms",
        "users with an update": "users_alive",
    }
    series = {name: Series() for name in fields}
    for line in lines.read_text().splitlines():
        said = json.loads(line)
        for name, key in fields.items():
            if said[key] is not None:
                series[name].add(said["at_s"] - epoch_s, said[key])
    return series
