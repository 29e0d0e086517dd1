"""What metrics cost a worker: ``python -m benchmarks.metrics_cost``, some eight minutes.

Whole workers take the same events from a Kafka of their own, one with its metrics scraped every
second and one that measures nothing, in turn, the first of a pair changing. What is compared is the
CPU time of the worker's own process from before the first event to after the last checkpoint: the
encoder, a process of its own, measures nothing, and elapsed time of two processes, a broker and a
sender on two cores says more of the others. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Self

import numpy as np
import psutil

from benchmarks.soak.scene import SoakWorker
from benchmarks.workload import Workload
from stream_app import topics
from stream_app.kafka_server import KafkaServer
from stream_app.local_ports import HOST, free_port
from stream_app.sender import open_sender
from stream_app.settings import Settings

_SCRAPE_S = 1.0
_DRAWS = 2_000


class Scraper:
    """Asks for the metrics every second, as Prometheus would every fifteen."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}/metrics"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.scrapes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_SCRAPE_S):
            with urllib.request.urlopen(self._url, timeout=30) as answer:
                answer.read()
            self.scrapes += 1


async def _send(settings: Settings, workload: Workload) -> int:
    sent = 0
    async with open_sender(settings.bootstrap_servers) as sender:
        for record in workload.records():
            await sender.send(settings.events_topic, record.key, record.value)
            sent += 1
    return sent


def cpu_us_per_event(
    name: str, folder: Path, bootstrap: str, workload: Workload, *, metered: bool
) -> float:
    """Return the worker process's CPU time for each event, in microseconds."""
    raw: dict[str, object] = {
        "bootstrap_servers": bootstrap, "app_id": name, "events_topic": f"{name}.events",
        "items_topic": f"{name}.items", "updates_topic": f"{name}.updates",
        "item_vectors_topic": f"{name}.item-vectors", "dead_letters_topic": f"{name}.dead-letters",
        "partitions": workload.partitions, "update_format": "avro", "encoder": "stub",
        "log_level": "warning",
    }  # fmt: skip
    settings = Settings(**raw)  # type: ignore[arg-type]
    asyncio.run(topics.create(settings))
    port = free_port()
    worker = SoakWorker(
        name,
        folder,
        raw | ({"http_port": port} if metered else {}),
        "stream_app" if metered else "benchmarks.unmetered",
    )
    worker.start().wait(lambda status: status["state"] == "running", "start")
    process = psutil.Process(worker.pid)

    def spent_s() -> float:
        times = process.cpu_times()
        return times.user + times.system

    def play() -> float:
        before_s = spent_s()
        sent = asyncio.run(_send(settings, workload))
        worker.wait(
            lambda status: status["counts"]["records"] >= sent and not status["dirty"], "end"
        )
        return (spent_s() - before_s) / sent * 1e6

    try:
        if not metered:
            return play()
        with Scraper(port) as scraper:
            found = play()
        assert scraper.scrapes, "the metrics were asked for"
        return found
    finally:
        worker.stop()


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return between what the median of the ratios lies in 95 of 100 draws of the pairs."""
    draws = np.random.default_rng(0).choice(ratios, (_DRAWS, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics_cost", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--events", type=int, default=300_000)
    arguments = parser.parse_args()
    workload = Workload(arguments.events, 20_000, 4_000)
    spent: dict[bool, list[float]] = {True: [], False: []}
    with (
        tempfile.TemporaryDirectory(prefix="interest-metrics-") as path,
        KafkaServer(Path(path) / "kafka") as kafka,
    ):
        folder = Path(path)
        for pair in range(arguments.pairs):
            for metered in (True, False) if pair % 2 else (False, True):
                name = f"cost{pair}-{'with' if metered else 'without'}"
                found = cpu_us_per_event(name, folder, kafka.bootstrap, workload, metered=metered)
                spent[metered].append(found)
                print(f"{name}: {found:.2f} us of CPU an event", file=sys.stderr, flush=True)
    ratios = [has / lacks for has, lacks in zip(spent[True], spent[False], strict=True)]
    print(
        json.dumps(
            {
                "pairs": arguments.pairs,
                "events": arguments.events,
                "with_us": statistics.median(spent[True]),
                "without_us": statistics.median(spent[False]),
                "ratio": statistics.median(ratios),
                "ratio_interval": interval(ratios),
            }
        )
    )


if __name__ == "__main__":
    main()
