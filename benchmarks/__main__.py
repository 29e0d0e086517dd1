"""``python -m benchmarks [--quick]``: every contest on one broker, a table, one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.agreement import Reference
from benchmarks.broker import Broker
from benchmarks.contestants import OURS, PLAIN, QUIX, STOCK_FAUST, STOCK_NOOP, Contestant
from benchmarks.contests import Hall
from benchmarks.job import Job, Run
from benchmarks.latency import Latency, Pace
from benchmarks.prepare import Prepared
from benchmarks.report import Results
from benchmarks.workload import Workload
from stream_app.kafka_server import open_kafka

_EVENTS_TOPIC = "bench.events"
_STEADY_TOPIC = "bench.steady"
_ITEMS = 4_000


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    workload: Workload
    rounds: tuple[tuple[Contestant, ...], ...]
    """Contests in order. Those that the goals compare stand next to each other, in an order that
    turns round, so that a machine that slows down does not slow one of them only."""
    pace: Pace
    steady: Workload | None
    """Few users, so that windows are soon full: then memory has nothing left to grow for."""


FULL = Size(
    Workload(600_000, 20_000, _ITEMS),
    (
        (STOCK_NOOP, STOCK_FAUST, PLAIN, OURS, QUIX),
        (QUIX, OURS, PLAIN, STOCK_FAUST),
        (STOCK_NOOP, PLAIN, OURS, QUIX),
    ),
    Pace(warm_up_s=5.0, measured_s=25.0),
    Workload(600_000, 2_000, _ITEMS, seed=12),
)
QUICK = Size(
    Workload(200_000, 20_000, _ITEMS),
    ((STOCK_NOOP, STOCK_FAUST, PLAIN, OURS, QUIX),),
    Pace(warm_up_s=2.0, measured_s=8.0),
    None,
)


async def contests(bootstrap: str, size: Size, prepared: Prepared, directory: Path) -> Results:
    """Run everything that needs Kafka."""
    results = Results(size.workload, prepared)
    async with Broker(bootstrap) as broker:
        hall = Hall(broker, prepared, directory, size.workload.partitions)
        await broker.delete("bench")
        await hall.publish_items(size.workload)
        await hall.publish_events(_EVENTS_TOPIC, size.workload)
        reference = Reference(size.workload.records(), _reference_job(prepared))
        for number, contestants in enumerate(size.rounds, 1):
            for contestant in contestants:
                _say(f"throughput, round {number} of {len(size.rounds)}: {contestant.label}")
                ran = await hall.race(contestant, _EVENTS_TOPIC, size.workload.events)
                _say(f"  {ran.rate:,.0f} events/s")
                if ran.tail:
                    results.agreements[ran.name] = reference.check(ran.tail)
                    ran.tail.clear()
                results.throughput.setdefault(ran.name, []).append(ran)
        await broker.delete(_EVENTS_TOPIC)
        if size.steady is not None:
            _say("memory: interest-stream with windows that are soon full")
            await hall.publish_events(_STEADY_TOPIC, size.steady)
            results.steady = await hall.race(OURS, _STEADY_TOPIC, size.steady.events)
            await broker.delete(_STEADY_TOPIC)
        for contestant in (STOCK_FAUST, QUIX, OURS):
            _say(f"latency at {size.pace.events_per_s:,} events/s: {contestant.label}")
            waited: Latency = await hall.trickle(contestant, size.pace)
            _say(f"  p50 {waited.p50_ms:.1f} ms, p99 {waited.p99_ms:.1f} ms")
            results.latency[waited.name] = waited
    return results


def _reference_job(prepared: Prepared) -> Job:
    nowhere = Run(
        "reference", "", "", _EVENTS_TOPIC, "", "", "", str(prepared.vectors), prepared.model_id,
        prepared.weights, 1,
    )  # fmt: skip
    return Job(nowhere)


def _prepare(directory: Path) -> Prepared:
    _say(f"encoding the {_ITEMS:,} item texts once")
    subprocess.run(
        [sys.executable, "-m", "benchmarks.prepare", str(_ITEMS), str(directory)], check=True
    )
    return Prepared.load(directory)


def _text_encoder(quick: bool) -> dict[str, object]:
    """Return what ``benchmarks.text_encoder`` measures, from a process of its own."""
    _say("text encoder against sentence-transformers")
    code = (
        "import json, sys\nfrom benchmarks import text_encoder\n"
        "print(json.dumps(text_encoder.run(sys.argv[1] == 'quick')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "quick" if quick else "full"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    measured: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about four minutes, a smaller size")
    parser.add_argument("--no-texts", action="store_true", help="leave the text encoder out")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="interest-bench-") as name:
        directory = Path(name)
        texts = {} if arguments.no_texts else _text_encoder(arguments.quick)
        prepared = _prepare(directory)
        size = QUICK if arguments.quick else FULL
        with open_kafka(directory / "kafka") as bootstrap:
            results = asyncio.run(contests(bootstrap, size, prepared, directory / "runs"))
    results.texts = texts
    results.took_s = time.monotonic() - began
    print(report.table(results))
    print(json.dumps(report.figures(results)))
    # Whoever does another job cannot be compared: the figures are shown, and the run fails.
    sys.exit(1 if report.disagreements(results) else 0)


if __name__ == "__main__":
    main()
