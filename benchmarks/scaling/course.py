"""A stream that is scaled from one worker to two, to four and back, and what each step gave."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.scaling.standstill import Standstill, longest_standstill
from benchmarks.soak.scene import SoakWorker
from benchmarks.workload import Record, Workload
from stream_app import topics
from stream_app.kafka_server import KafkaServer
from stream_app.sender import open_sender
from stream_app.settings import Settings

PARTITIONS = 8
ITEMS = 2_000
_LOOK_EVERY_S = 0.1
_DRAIN_S = 180.0


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    sizes: tuple[int, ...] = (1, 2, 4, 4, 2, 1)
    """Workers, in order: there and back. On the way there a worker meets texts it has to embed."""
    burst_events: int = 60_000
    warm_up_events: int = 120_000
    users: int = 20_000
    """So many that few events of a second are of one user: each is a window to store, as with many
    millions."""
    hot_windows: int = 1_000
    """Per worker; so few that most windows are read from RocksDB, as with many millions."""
    window_events: int = 20
    """Full for most users after the warm-up: a burst then costs what it always costs."""
    encoder: str = "transformer"


@dataclass
class Burst:
    """One burst, from its first event sent to its last one committed."""

    workers: int
    events: int
    seconds: float
    lag_peak: int
    """Most events in the topic and not committed."""
    lag_s: float
    """From the last event sent until all are committed."""
    worker_cpu_s: float
    """Of all workers, their encoder processes among them."""
    encoder_cpu_s: float
    """Of that, the encoder processes."""
    broker_cpu_s: float
    updates: int
    windows_stored: int

    @property
    def events_per_s(self) -> float:
        """Return the rate."""
        return self.events / self.seconds


@dataclass
class Measured:
    """Everything that a course gave."""

    plan: Plan
    bursts: list[Burst] = field(default_factory=list)
    standstills: list[Standstill] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    """Of each worker at four of them, PSS, its encoder process included."""


class Course:
    """Kafka, workers, load: in one folder."""

    def __init__(self, plan: Plan, folder: Path, kafka: KafkaServer) -> None:
        raw: dict[str, object] = {
            "bootstrap_servers": kafka.bootstrap,
            "partitions": PARTITIONS,
            "encoder": plan.encoder,
            "app_id": "scaling",
            "update_format": "avro",
            "hot_windows_max": plan.hot_windows,
            "window_max_events": plan.window_events,
            "log_level": "warning",
        }
        self._plan = plan
        self._settings = Settings(**raw)  # type: ignore[arg-type]
        self._broker = psutil.Process(kafka.pid)
        self._workers = [
            SoakWorker(f"worker-{number}", folder, raw) for number in range(1, max(plan.sizes) + 1)
        ]
        self._running: list[SoakWorker] = []
        self._sent = 0
        workload = Workload(
            plan.warm_up_events + len(plan.sizes) * plan.burst_events, plan.users, ITEMS, PARTITIONS
        )
        self._texts = workload.item_texts()
        self._records = workload.records()

    async def run(self) -> Measured:
        """Do it all."""
        found = Measured(self._plan)
        await topics.create(self._settings)
        async with open_sender(self._settings.bootstrap_servers) as sender:
            for item, text in self._texts.items():
                value = b'{"item_id":"%b","text":"%b"}' % (item.encode(), text.encode())
                await sender.send(self._settings.items_topic, item.encode(), value)
        try:
            await self._scale(self._plan.sizes[0])
            await self._burst(self._plan.warm_up_events)
            seen: set[int] = set()
            for workers in self._plan.sizes:
                await self._scale(workers)
                burst = await self._burst(self._plan.burst_events)
                found.bursts.append(burst)
                say(f"{workers} workers: {burst.events_per_s:,.0f} events/s, {burst}")
                if workers not in seen:
                    seen.add(workers)
                    found.standstills += await self._standstills()
                    say(f"  {found.standstills[-2:]}")
                if workers == max(self._plan.sizes) and not found.memory_mib:
                    found.memory_mib = [_memory_mib(each) for each in self._running]
        finally:
            for worker in reversed(self._running):
                await asyncio.to_thread(worker.stop)
        return found

    async def _scale(self, workers: int) -> None:
        """Start or stop workers one by one, and wait until the partitions are spread."""
        while len(self._running) > workers:
            await asyncio.to_thread(self._running.pop().stop)
        while len(self._running) < workers:
            self._running.append(self._workers[len(self._running)].start())
            await self._shared()
        await self._shared()

    async def _shared(self) -> None:
        """Wait until every worker runs and every partition has one owner."""
        deadline = time.monotonic() + _DRAIN_S
        least = PARTITIONS // len(self._running)
        while True:
            held: list[int] = []
            even = True
            for worker in self._running:
                worker.must_run()
                status = worker.status()
                running = status.get("state") == "running"
                even = even and running and len(status["partitions"]) >= least
                held += status.get("partitions", ()) if running else ()
            if even and sorted(held) == list(range(PARTITIONS)):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions are not shared: {held}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _standstills(self) -> list[Standstill]:
        """The last worker is stopped and comes back; a lone one leaves all partitions alone."""
        last = self._running[-1]

        async def leave() -> None:
            await asyncio.to_thread(last.stop)
            if len(self._running) == 1:
                await come()

        async def come() -> None:
            last.start()
            await self._shared()

        workers = len(self._running)
        if workers == 1:
            return [await longest_standstill(self._settings, "restart", workers, leave)]
        return [
            await longest_standstill(self._settings, "leave", workers, leave),
            await longest_standstill(self._settings, "join", workers, come),
        ]

    async def _burst(self, events: int) -> Burst:
        records = list(islice(self._records, events))
        before = self._spent()
        looking = asyncio.create_task(self._watch_lag())
        began_s = time.monotonic()
        await self._send(records)
        sent_s = time.monotonic()
        peak, drained_s = await looking
        spent = [after - start for after, start in zip(self._spent(), before, strict=True)]
        worker_s, encoder_s, broker_s, updates, stored = spent
        return Burst(
            len(self._running), events, drained_s - began_s, peak, drained_s - sent_s,
            worker_s, encoder_s, broker_s, int(updates), int(stored),
        )  # fmt: skip

    async def _send(self, records: list[Record]) -> None:
        topic = self._settings.events_topic
        async with open_sender(self._settings.bootstrap_servers) as sender:
            for record in records:
                await sender.send(topic, record.key, record.value)
        self._sent += len(records)

    async def _watch_lag(self) -> tuple[int, float]:
        """Return the largest lag, and when the group had committed all that there is."""
        settings = self._settings
        places = [TopicPartition(settings.events_topic, n) for n in range(PARTITIONS)]
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        reader = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
        await admin.start()
        await reader.start()
        target = self._sent + 1  # something of this burst must have arrived
        peak, deadline = 0, time.monotonic() + _DRAIN_S
        try:
            while True:
                ends = sum((await reader.end_offsets(places)).values())
                offsets = await admin.list_consumer_group_offsets(settings.app_id)
                committed = sum(offsets[p].offset for p in places if p in offsets)
                now_s = time.monotonic()
                peak = max(peak, ends - committed)
                if committed >= ends >= target and self._sent >= target:
                    return peak, now_s
                if now_s > deadline:
                    raise TimeoutError(f"{ends - committed} events are left after {_DRAIN_S} s")
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await reader.stop()
            await admin.close()

    def _spent(self) -> tuple[float, float, float, float, float]:
        """CPU seconds of workers, encoders and broker; updates and windows written so far."""
        all_s = encoder_s = updates = stored = 0.0
        for worker in self._running:
            process = psutil.Process(worker.pid)
            children_s = sum(_cpu_s(child) for child in process.children(recursive=True))
            all_s += _cpu_s(process) + children_s
            encoder_s += children_s
            counts = worker.status()["counts"]
            updates += counts["updates_published"]
            stored += counts["windows_stored"]
        return all_s, encoder_s, _cpu_s(self._broker), updates, stored


def settled(bursts: list[Burst], workers: int) -> Burst:
    """Return the last burst of that many workers: each has embedded the texts it meets by then."""
    return [burst for burst in bursts if burst.workers == workers][-1]


def _cpu_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return spent.user + spent.system


def _memory_mib(worker: SoakWorker) -> float:
    process = psutil.Process(worker.pid)
    every = (process, *process.children(recursive=True))
    return sum(each.memory_full_info().pss for each in every) / (1 << 20)


def say(line: str) -> None:
    """Tell whoever watches."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)
