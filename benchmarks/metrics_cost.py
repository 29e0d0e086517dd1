"""What metrics cost a worker: ``python -m benchmarks.metrics_cost``, about two minutes.

A real worker takes events from a Kafka of its own while its metrics are scraped every second, and
adds up the CPU time of all that it does for them alone. That is set against the CPU time of its
process, from before the first event to after the last checkpoint. The one thing that is done for
each event, an addition in the fold's loop, is timed by itself. (Whole workers with and without
metering differ by less than two of them do that are alike, so that is no measure.) Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import timeit
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.soak.sampling import Sampler
from benchmarks.soak.scene import SoakWorker
from benchmarks.timed_meters import METERING_FILE
from benchmarks.workload import Workload
from state.event import EventType
from state.window import Outcome
from stream_app import topics
from stream_app.kafka_server import KafkaServer
from stream_app.local_ports import HOST, free_port
from stream_app.meters import no_outcomes
from stream_app.sender import open_sender
from stream_app.settings import Settings

_SCRAPE_S = 1.0
_ADDITIONS = 1_000_000


def _scrape(port: int) -> dict[str, float]:
    """Ask for the metrics, as Prometheus would."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
        return {"bytes": len(answer.read())}


async def _send(settings: Settings, workload: Workload) -> int:
    sent = 0
    async with open_sender(settings.bootstrap_servers) as sender:
        for record in workload.records():
            await sender.send(settings.events_topic, record.key, record.value)
            sent += 1
    return sent


class Spent(NamedTuple):
    """CPU seconds of a worker's process."""

    events: int
    all_s: float
    metering_s: float


def addition_s() -> float:
    """Return what counting by type and outcome takes an event, the loop about it included."""
    outcomes = no_outcomes()

    def count() -> None:
        for _ in range(_ADDITIONS):
            outcomes[EventType.CLICK][Outcome.FOLDED] += 1

    return min(timeit.repeat(count, number=1, repeat=5)) / _ADDITIONS


def run(name: str, folder: Path, bootstrap: str, workload: Workload) -> Spent:
    """Let a worker do it all once."""
    port = free_port()
    raw: dict[str, object] = {
        "bootstrap_servers": bootstrap, "app_id": name, "events_topic": f"{name}.events",
        "items_topic": f"{name}.items", "updates_topic": f"{name}.updates",
        "item_vectors_topic": f"{name}.item-vectors", "dead_letters_topic": f"{name}.dead-letters",
        "partitions": workload.partitions, "update_format": "avro", "encoder": "stub",
        "log_level": "warning", "http_port": port,
    }  # fmt: skip
    settings = Settings(**raw)  # type: ignore[arg-type]
    asyncio.run(topics.create(settings))
    os.environ[METERING_FILE] = str(folder / f"{name}.seconds")
    worker = SoakWorker(name, folder, raw, "benchmarks.timed_meters").start()
    try:
        worker.wait(lambda status: status["state"] == "running", "start")
        times = psutil.Process(worker.pid).cpu_times
        before = times()
        with Sampler(time.time(), _SCRAPE_S, lambda: _scrape(port)) as scraper:
            sent = asyncio.run(_send(settings, workload))
            worker.wait(
                lambda status: status["counts"]["records"] >= sent and not status["dirty"], "end"
            )
        after = times()
        if scraper.failure is not None or not scraper.series:
            raise RuntimeError(f"the metrics were not scraped: {scraper.failure}")
    finally:
        worker.stop()
    all_s = after.user + after.system - before.user - before.system
    return Spent(sent, all_s, float(Path(os.environ[METERING_FILE]).read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=300_000)
    arguments = parser.parse_args()
    workload = Workload(arguments.events, 20_000, 4_000)
    each_s = addition_s()
    shares = []
    with (
        tempfile.TemporaryDirectory(prefix="interest-metrics-") as path,
        KafkaServer(Path(path) / "kafka") as kafka,
    ):
        for number in range(arguments.rounds):
            spent = run(f"cost{number}", Path(path), kafka.bootstrap, workload)
            metering_s = spent.metering_s + each_s * spent.events
            shares.append(metering_s / spent.all_s)
            print(
                f"{spent.all_s / spent.events * 1e6:.1f} us of CPU an event, "
                f"{metering_s / spent.events * 1e6:.2f} us of them for metrics",
                file=sys.stderr,
                flush=True,
            )
    print(
        json.dumps(
            {
                "events": arguments.events,
                "addition_us": round(each_s * 1e6, 4),
                "share": round(statistics.median(shares), 4),
                "shares": [round(share, 4) for share in shares],
            }
        )
    )


if __name__ == "__main__":
    main()
