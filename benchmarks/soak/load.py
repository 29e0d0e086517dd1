"""The load of a soak, in a process of its own: sends events, reads updates, times probes.

Every twentieth of a second a probe user acts, and the probe's update is waited for. Times are of
this process alone. What happened is written line by line, ten seconds each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer

from benchmarks.soak.people import People
from stream_app.sender import Sender, open_sender

PROBES = 20
"""Probe users, taking turns, so that one is asked once a second."""
_PROBE_EVERY_S = 0.05
_LINE_EVERY_S = 10.0
_TICK_S = 0.005
_BURST = 200
"""Events handed over before the reader may run, at most."""
_APPLIED = "applied_offset"


@dataclass(frozen=True)
class LoadPlan:
    """What the process is told, as JSON."""

    bootstrap: str
    events_topic: str
    updates_topic: str
    rate: float
    """Events per second; 0 for as many as go."""
    seconds: float
    active: int
    first_number: int
    base_ms: int
    """Event time at ``epoch_s``."""
    epoch_s: float
    """``time.time()`` at which the soak began."""
    speed: float
    """Event time runs so much faster than the clock."""
    lines: str

    def save(self, path: Path) -> Path:
        """Write the file that ``main`` reads."""
        path.write_text(json.dumps(asdict(self)))
        return path

    def event_ms(self) -> int:
        """Return event time now."""
        return self.base_ms + int((time.time() - self.epoch_s) * 1000 * self.speed)


class Load:
    """Sends and reads until the time is over."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._alive: set[bytes] = set()
        self._tombstones = 0
        self._waits_ms: list[float] = []
        self._pending: dict[bytes, deque[tuple[int, float]]] = {}
        self._seen: dict[bytes, int] = {}
        self.sent = 0

    async def run(self) -> None:
        """Send and read."""
        plan = self._plan
        consumer = AIOKafkaConsumer(
            plan.updates_topic,
            bootstrap_servers=plan.bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            async with open_sender(plan.bootstrap) as sender, asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(consumer))
                telling = group.create_task(self._tell())
                probing = group.create_task(self._probe(sender))
                await self._send(sender)
                probing.cancel()
                await sender.settle()
                for task in (reading, telling):
                    task.cancel()
        finally:
            await consumer.stop()
        self._line()

    async def _send(self, sender: Sender) -> None:
        plan = self._plan
        begin_s = time.perf_counter()
        for event in People(plan.active).events(plan.first_number):
            elapsed_s = time.perf_counter() - begin_s
            if elapsed_s > plan.seconds:
                return
            while plan.rate and self.sent > elapsed_s * plan.rate:
                await asyncio.sleep(_TICK_S)
                elapsed_s = time.perf_counter() - begin_s
            event["time_ms"] = plan.event_ms()
            key = str(event["user_id"]).encode()
            await sender.send(plan.events_topic, key, msgspec.json.encode(event))
            self.sent += 1
            if self.sent % _BURST == 0:
                await asyncio.sleep(0)

    async def _probe(self, sender: Sender) -> None:
        plan = self._plan
        for number in range(1 << 40):
            await asyncio.sleep(_PROBE_EVERY_S)
            key = b"probe%d" % (number % PROBES)
            event = {
                "event_id": f"p{plan.first_number}-{number}",
                "user_id": key.decode(),
                "type": "view",
                "item_id": f"i{number % 50}",
                "time_ms": plan.event_ms(),
            }
            await sender.send(plan.events_topic, key, msgspec.json.encode(event), self._on_ack)

    def _on_ack(self, key: bytes, _: int, offset: int, sent_at: float) -> None:
        self._pending.setdefault(key, deque()).append((offset, sent_at))
        self._answer(key, time.perf_counter())

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=100)
            now_s = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    self._take(record, now_s)

    def _take(self, record: Any, now_s: float) -> None:
        key = record.key
        if record.value is None:
            self._alive.discard(key)
            self._tombstones += 1
        else:
            self._alive.add(key)
        if key.startswith(b"probe"):
            applied = int(dict(record.headers)[_APPLIED])
            self._seen[key] = max(self._seen.get(key, -1), applied)
            self._answer(key, now_s)

    def _answer(self, key: bytes, now_s: float) -> None:
        pending = self._pending.get(key, ())
        while pending and pending[0][0] <= self._seen.get(key, -1):
            self._waits_ms.append((now_s - pending.popleft()[1]) * 1000)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            self._line()

    def _line(self) -> None:
        waits, self._waits_ms = self._waits_ms, []
        p50, p99 = np.percentile(waits, [50, 99]).tolist() if waits else (None, None)
        line = {
            "at_s": time.time(),
            "sent": self.sent,
            "users_alive": len(self._alive),
            "tombstones": self._tombstones,
            "p50_ms": p50,
            "p99_ms": p99,
            "probes": len(waits),
        }
        with Path(self._plan.lines).open("a") as lines:
            lines.write(json.dumps(line) + "\n")


def main() -> None:
    plan = LoadPlan(**json.loads(Path(sys.argv[1]).read_text()))
    asyncio.run(Load(plan).run())


if __name__ == "__main__":
    main()
