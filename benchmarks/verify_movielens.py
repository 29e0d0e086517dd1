"""``python -m benchmarks.verify_movielens [--quick] [--stub]``: played, then verified.

A live worker folds and publishes MovieLens-1M, every rating, with many users' events in one
micro-batch, few in another. Then ``replay --verify`` recomputes every window and vector that was
published. A table of what was compared, and a line of JSON at the end; exit code 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.replay import FULL, QUICK, Stage
from stream_app import movielens, topics
from stream_app.demo_worker import Child, environment, read_status
from stream_app.errors import WaitForBroker
from stream_app.kafka_server import open_kafka
from stream_app.settings import Settings

_PLAY_LIMIT_S = 900.0


async def play(stage: Stage, ends: dict[int, int]) -> dict[str, Any]:
    """Have a live worker do all there is, items' vectors too; return its speed and counts."""
    settings = stage.settings
    worker = Child(["worker"], settings, stage.directory / "live.log")
    deadline = time.monotonic() + _PLAY_LIMIT_S
    began: float | None = None
    played_s = 0.0
    films = len(movielens.items())
    try:
        while not played_s or _items_published(settings) < films:
            worker.check_alive()
            now = time.monotonic()
            if began is None and read_status(settings).get("state") == "running":
                began = now
            committed = await _committed(stage)
            if began is not None and not played_s and committed == ends:
                played_s = now - began
            if now > deadline:
                raise TimeoutError(f"the worker did not come to the end: {committed}")
            await asyncio.sleep(0.5)
    finally:
        worker.stop(60)
    counts = read_status(settings)["counts"]
    return {
        "events_per_s": round(sum(ends.values()) / played_s),
        "updates": counts["updates_published"],
        "micro_batches": counts["micro_batches"],
        "windows": counts["windows_stored"],
    }


def _items_published(settings: Settings) -> int:
    return int(read_status(settings).get("counts", {}).get("item_vectors_published", 0))


async def _committed(stage: Stage) -> dict[int, int]:
    try:
        return await topics.committed(stage.settings)
    except WaitForBroker:  # the very first group of a new broker
        return {}


async def verify(stage: Stage) -> dict[str, Any]:
    """Run the command as anybody would; its bar's lines go to standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stream_app", "replay", "--verify", "--json",
        stdout=asyncio.subprocess.PIPE, env=environment(stage.settings),
    )  # fmt: skip
    said, _ = await process.communicate()
    found: dict[str, Any] = json.loads(said)
    return found


async def run(bootstrap: str, directory: Path, *, quick: bool, stub: bool) -> dict[str, Any]:
    """Play, then verify."""
    stage = Stage(bootstrap, directory, QUICK if quick else FULL)
    if stub:
        stage.settings = stage.settings.model_copy(update={"encoder": "stub"})
    _say(f"publishing {stage.size.events:,} ratings")
    ends = await stage.fill()
    played = await play(stage, ends)
    _say(f"played: {json.dumps(played)}")
    verified = await verify(stage)
    return {"benchmark": "verify_movielens", "played": played, "verified": verified}


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify_movielens")
    parser.add_argument("--quick", action="store_true", help="the first 400,000 ratings")
    parser.add_argument("--stub", action="store_true", help="no language model: the rest alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interest-verify-bench-") as name:
        directory = Path(name)
        with open_kafka(directory / "kafka") as bootstrap:
            found = asyncio.run(
                run(bootstrap, directory, quick=arguments.quick, stub=arguments.stub)
            )
    verified = found["verified"]
    print(f"events {verified['events']:,}, users {verified['users']:,}")
    print(f"windows compared {verified['windows']:,}, vectors {verified['vectors']:,}")
    print(f"differences {len(verified['differences']) + verified['not_examined']:,}")
    print(f"{verified['events_per_s']:,} events/s; played at {found['played']['events_per_s']:,}")
    print(json.dumps(found))
    sys.exit(1 if verified["failing"] else 0)


if __name__ == "__main__":
    main()
