"""``python -m benchmarks.scaling``: 1, 2, 4 workers and back, five minutes.

Starts a Kafka of its own and writes docs/scaling.json. ``--page`` writes the tables of
docs/scaling.md from that and measures nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scaling.course import Course, Measured, Plan, say
from benchmarks.scaling.inputs import FIGURES
from benchmarks.scaling.page import PAGE, written
from stream_app.kafka_server import KafkaServer
from tests.chaos.record import Session

QUICK = Plan(sizes=(1, 2), burst_events=10_000, warm_up_events=10_000, users=500, encoder="stub")


def _course(plan: Plan, folder: Path) -> Measured:
    with KafkaServer(folder / "kafka") as kafka:
        return asyncio.run(Course(plan, folder, kafka).run())


def _texts() -> dict[str, Any]:
    """Measure in a process of its own: torch is not for this one."""
    code = "import json\nfrom benchmarks.scaling import texts\nprint(json.dumps(texts.measure()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page's tables anew")
    parser.add_argument("--quick", action="store_true", help="tiny, with the stub; writes nothing")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory(prefix="interest-scaling-") as name:
            texts = {} if arguments.quick else _texts()
            say(f"text encoder: {texts}")
            measured = _course(QUICK if arguments.quick else Plan(), Path(name))
        found = {**asdict(measured), "texts": texts, **vars(Session.here())}
        if arguments.quick:
            print(json.dumps(found, indent=1))
            return
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
