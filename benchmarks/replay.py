"""``python -m benchmarks.replay [--quick]``: MovieLens-1M replayed, and what it costs who is live.

One process; one, and three in one group, to whom the first has left its text vectors (each process
has a cache of its own, and would encode all films anew); then a live worker's waiting times at a
steady trickle: alone, beside one replay after another, and alone again. A line of JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.broker import Broker
from benchmarks.latency import Latency, Pace, trickle
from benchmarks.workload import Record
from stream_app import movielens, topics
from stream_app.demo_worker import Child, read_status
from stream_app.kafka_server import open_kafka
from stream_app.replaying import group, shadows
from stream_app.sender import open_sender
from stream_app.settings import Settings

_START_LIMIT_S = 120.0


@dataclass(frozen=True)
class Size:
    """How many ratings, and how long a trickle."""

    events: int
    pace: Pace


FULL = Size(movielens.RATINGS, Pace(events_per_s=500, warm_up_s=5.0, measured_s=20.0))
QUICK = Size(400_000, Pace(events_per_s=200, warm_up_s=2.0, measured_s=8.0))


class Stage:
    """A broker filled with MovieLens, and the live worker's settings for it."""

    def __init__(self, bootstrap: str, directory: Path, size: Size) -> None:
        self.size = size
        self.directory = directory
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            app_id="bench-live",
            datadir=directory / "live",
            update_format="avro",
            log_level="warning",
        )

    async def fill(self) -> dict[int, int]:
        """Publish catalogue and ratings; return the ends of the events topic."""
        settings = self.settings
        await topics.create(settings)
        async with open_sender(settings.bootstrap_servers) as sender:
            for item in movielens.items():
                await sender.send(
                    settings.items_topic, item["item_id"].encode(), orjson.dumps(item)
                )
        async with Broker(settings.bootstrap_servers) as broker:
            counts = await broker.fill(settings.events_topic, self._ratings())
        return dict(enumerate(counts))

    def _ratings(self) -> Iterator[Record]:
        for rating in movielens.ratings(self.size.events):
            key = rating.user_id.encode()
            number = topics.partition_of(key, self.settings.partitions)
            yield Record(number, key, orjson.dumps(movielens.event(rating)))

    def replay(self, name: str, process: int, ends: dict[int, int]) -> Child:
        """Start one process of a replay."""
        to = ",".join(f"{number}:{end}" for number, end in ends.items())
        datadir = self.directory / f"{name}-{process}"
        arguments = ["replay", "--name", name, "--to", to, "--datadir", str(datadir), "--json"]
        return Child(arguments, self.settings, self._log(name, process))

    def summary(self, name: str, process: int) -> dict[str, Any]:
        """Return what a process said at its end."""
        last = self._log(name, process).read_text().splitlines()[-1]
        found: dict[str, Any] = json.loads(last)
        return found

    def _log(self, name: str, process: int) -> Path:
        return self.directory / f"{name}-{process}.log"


async def backfill(
    stage: Stage, name: str, processes: int, ends: dict[int, int], texts: Path | None
) -> dict[str, Any]:
    """Replay everything by so many processes in one group; ``texts`` is a text cache for each."""
    for number in range(processes):
        if texts is not None:
            shutil.copytree(texts, stage.directory / f"{name}-{number}" / "text-cache")
    children = [stage.replay(name, number, ends) for number in range(processes)]
    for child in children:
        await child.finished()
    summaries = [stage.summary(name, number) for number in range(processes)]
    events = sum(ends.values())  # those that a rebalance brought again count once
    # The clock of the one that ran first; the others joined it.
    seconds = max(summary["seconds"] for summary in summaries)
    await shadows.delete(stage.settings, name)
    return {
        "processes": processes,
        "texts": "to encode" if texts is None else "in the cache",
        "events": events,
        "users": sum(summary["users"] for summary in summaries),
        "seconds": seconds,
        "events_per_s": round(events / seconds),
        "events_of_each": [summary["events"] for summary in summaries],
    }


async def beside(stage: Stage, ends: dict[int, int]) -> list[Latency]:
    """Measure a live worker's waiting times: alone, beside replays, alone again."""
    settings = stage.settings
    await group.set_offsets(
        settings.bootstrap_servers, settings.app_id, settings.events_topic, ends
    )
    live = Child(["worker"], settings, stage.directory / "live.log")
    await _at_rest(settings, live, len(movielens.items()))
    found = [await _waits(stage, "alone")]
    begun = asyncio.Event()
    replays = asyncio.create_task(_one_after_another(stage, ends, begun))
    await asyncio.wait({replays, asyncio.create_task(begun.wait())}, return_when="FIRST_COMPLETED")
    found.append(await _waits(stage, "beside replays"))
    replays.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await replays
    found.append(await _waits(stage, "alone again"))
    live.stop(30)
    return found


async def _one_after_another(stage: Stage, ends: dict[int, int], begun: asyncio.Event) -> None:
    """Replay everything again and again, for one replay takes less time than a measurement."""
    for number in itertools.count():
        name = f"beside{number}"
        datadir = stage.directory / f"{name}-0"
        shutil.copytree(stage.directory / "cold-0" / "text-cache", datadir / "text-cache")
        replay = stage.replay(name, 0, ends)
        try:
            if not begun.is_set():
                its_own = stage.settings.model_copy(update={"datadir": datadir})
                await _at_rest(its_own, replay, films=1)
                begun.set()
            await replay.finished()
        except asyncio.CancelledError:
            replay.stop(30)
            raise


async def _at_rest(settings: Settings, child: Child, films: int) -> None:
    """Wait until a worker runs and has published so many item vectors, its work at the start."""
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        status = read_status(settings)
        done = status.get("counts", {}).get("item_vectors_published", 0) >= films
        if status.get("state") == "running" and done:
            return
        child.check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"no worker at rest in {settings.datadir}: {status}")
        await asyncio.sleep(0.2)


async def _waits(stage: Stage, name: str) -> Latency:
    settings = stage.settings
    both = (settings.events_topic, settings.updates_topic)
    waited = await trickle(
        name,
        settings.bootstrap_servers,
        both,
        settings.partitions,
        stage.directory,
        stage.size.pace,
    )
    _say(f"live worker {name}: p50 {waited.p50_ms:.1f} ms, p99 {waited.p99_ms:.1f} ms")
    return waited


async def run(bootstrap: str, directory: Path, size: Size) -> dict[str, Any]:
    """Run everything."""
    stage = Stage(bootstrap, directory, size)
    _say(f"publishing {size.events:,} ratings")
    ends = await stage.fill()
    backfills = []
    cold = directory / "cold-0" / "text-cache"
    for name, processes, texts in (("cold", 1, None), ("one", 1, cold), ("three", 3, cold)):
        backfills.append(await backfill(stage, name, processes, ends, texts))
        _say(json.dumps(backfills[-1]))
    waits = await beside(stage, ends)
    alone_p99 = (waits[0].p99_ms + waits[2].p99_ms) / 2
    return {
        "benchmark": "replay",
        "events": size.events,
        "backfills": backfills,
        "trickle_events_per_s": size.pace.events_per_s,
        "live": {w.name: {"p50_ms": w.p50_ms, "p99_ms": w.p99_ms} for w in waits},
        "unanswered": sum(w.unanswered for w in waits),
        "p99_beside_over_alone": round(waits[1].p99_ms / alone_p99, 2),
    }


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="400,000 ratings")
    size = QUICK if parser.parse_args().quick else FULL
    with (
        tempfile.TemporaryDirectory(prefix="interest-replay-") as name,
        open_kafka(Path(name) / "kafka") as bootstrap,
    ):
        print(json.dumps(asyncio.run(run(bootstrap, Path(name), size))))


if __name__ == "__main__":
    main()
