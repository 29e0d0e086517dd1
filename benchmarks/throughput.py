"""One contest over the filled topic: from the first event worked on to the last commit."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import ConsumerRecord

from benchmarks.broker import Broker
from benchmarks.contestants import Contestant
from benchmarks.job import Run
from benchmarks.processes import ContestantProcess

_POLL_S = 0.05
"""Between two looks at the committed offsets: 20 small requests a second, for everybody."""
_START_LIMIT_S = 120.0
_STALL_LIMIT_S = 60.0
_QUIET_LIMIT_S = 10.0


@dataclass
class Throughput:
    """What one run of one contestant gave."""

    name: str
    events: int
    seconds: float
    startup_s: float
    """From the start of the process to the first update: imports, models, rebalance, catalogue."""
    updates: int
    memory: list[tuple[float, int]]
    """(seconds on the clock, resident bytes) while the clock ran."""
    status: dict[str, object] = field(default_factory=dict)
    """Ours: the worker's own counters after the last commit."""
    tail: list[ConsumerRecord] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


async def measure(broker: Broker, contestant: Contestant, run: Run, events: int) -> Throughput:
    """Run ``contestant`` until ``events`` are committed.

    The clock starts when the broker stamps the first update (for the no-op agent, which has none:
    one commit interval before its first commit) and stops when the committed offsets reach the
    number or the last update is stamped, whichever is later. So a last checkpoint counts.

    Raises:
        CalledProcessError: the contestant ended by itself.
        TimeoutError: it did not start, or stopped committing.
    """
    with ContestantProcess(f"benchmarks.contestants.{contestant.name}", run) as process:
        commits = await _until_committed(broker, run, events, process)
        end_s, done = commits[-1]
        status = await _clean(run) if contestant.name == "ours" else {}
    if contestant.publishes:
        published = await broker.published(run.updates_topic)
        start_s, updates, tail = published.first_s, published.count, published.tail
        if contestant.share == 1.0:
            end_s = max(end_s, published.last_s)
        at_start = 0
    else:
        start_s, at_start = commits[0]
        updates, tail = 0, []
    return Throughput(
        contestant.name,
        done - at_start,
        end_s - start_s,
        start_s - process.started_s,
        updates,
        [(at - start_s, size) for at, size in process.samples if start_s <= at <= end_s],
        status,
        tail,
    )


async def _until_committed(
    broker: Broker, run: Run, events: int, process: ContestantProcess
) -> list[tuple[float, int]]:
    """Return (time, committed) at every change, the last one at or past ``events``."""
    commits: list[tuple[float, int]] = []
    patience_s = time.time() + _START_LIMIT_S
    while not commits or commits[-1][1] < events:
        process.must_run()
        committed = await broker.committed(run.group, run.events_topic)
        now = time.time()
        if committed > (commits[-1][1] if commits else 0):
            commits.append((now, committed))
            patience_s = now + _STALL_LIMIT_S
        elif now > patience_s:
            tail = process.log.read_text(errors="replace")[-2000:]
            raise TimeoutError(f"{run.name} stands at {commits[-1:]} of {events}:\n{tail}")
        await asyncio.sleep(_POLL_S)
    return commits


async def _clean(run: Run) -> dict[str, object]:
    """Return our worker's status once it says that nothing is dirty; a commit should mean that."""
    path = Path(run.directory) / "worker" / "status.json"
    deadline = time.time() + _QUIET_LIMIT_S
    while True:
        status: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
        if status.get("dirty") == 0 and status.get("backlog") == 0:
            return status
        if time.time() > deadline:
            raise TimeoutError(f"all committed, but the worker is not clean: {status}")
        await asyncio.sleep(0.2)
