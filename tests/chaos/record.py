"""What is kept of every plan: a line of JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stream_app.kafka_jars import KAFKA_VERSION
from stream_app.kafka_server import external_bootstrap
from tests.harness.inflicting import Outcome

ROOT = Path(__file__).resolve().parents[2]
_IS_ERROR = re.compile(r"[A-Za-z_.]+(Error|Exception|Restart\w+|Wait\w+):")
_PACKAGES = ("faust-streaming", "aiokafka", "rocksdict")
_CODE = ("stream_app", "encoders", "state")


@cache
def commit() -> str:
    """Return the git commit, with a plus where the worker's code differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", *_CODE) else "")


@dataclass(frozen=True)
class Record:
    """A plan played once."""

    seed: int
    kind: str
    """What the seed was drawn with; both together give the plan again."""
    faults: list[str]
    passed: bool
    seconds: float
    commit: str
    at: str
    workers: int
    partitions: int
    tight: bool
    standby: bool
    events: int
    lives: int
    stale_written: int
    stale_windows: int
    compacted: int
    stale_dropped: int
    intrusions: int
    error: str = ""

    @classmethod
    def of(cls, outcome: Outcome, kind: str) -> Record:
        """Return what is kept of an outcome."""
        plan = outcome.plan
        lines = outcome.error.strip().splitlines()
        return cls(
            seed=plan.seed,
            kind=kind,
            faults=list(plan.faults),
            passed=outcome.passed,
            seconds=round(outcome.seconds, 1),
            commit=commit(),
            at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            workers=plan.workers,
            partitions=int(str(plan.settings["partitions"])),
            tight="dirty_users_max" in plan.settings,
            standby="standby_replicas" in plan.settings,
            events=outcome.events,
            lives=outcome.lives,
            stale_written=outcome.stale_written,
            stale_windows=outcome.stale_windows,
            compacted=outcome.compacted,
            stale_dropped=outcome.stale_dropped,
            intrusions=outcome.intrusions,
            error=next((line for line in lines if _IS_ERROR.match(line)), lines[-1])[:300]
            if lines
            else "",
        )

    def line(self) -> str:
        """Return it as a line of JSON, without what is empty."""
        return json.dumps({k: v for k, v in vars(self).items() if v or k == "passed"})


@dataclass(frozen=True)
class Session:
    """On what a run of plans was made."""

    commit: str
    machine: str
    versions: str

    @classmethod
    def here(cls) -> Session:
        """Return what is true of this process."""
        kafka = f"Kafka {KAFKA_VERSION}" if external_bootstrap() is None else "KAFKA_BOOTSTRAP"
        packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        return cls(
            commit(),
            f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}",
            f"Python {platform.python_version()}, {kafka}, {packages}",
        )

    def line(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(vars(self))


def append(path: Path, record: Record | Session) -> None:
    """Write a line behind the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(record.line() + "\n")


def read(paths: Iterable[Path]) -> Iterator[Record | Session]:
    """Yield what files hold."""
    empty: dict[str, Any] = dict.fromkeys(Record.__dataclass_fields__, 0)
    empty |= {"kind": "", "error": "", "tight": False, "standby": False}
    for path in paths:
        for line in path.read_text().splitlines():
            found = json.loads(line)
            yield Session(**found) if "machine" in found else Record(**{**empty, **found})


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
