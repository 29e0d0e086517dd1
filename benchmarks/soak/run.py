"""The course of a soak: capacity, then half of it for as long as asked, with rebalances."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak import leftovers, sampling
from benchmarks.soak.load import LoadPlan
from benchmarks.soak.people import ITEMS, catalogue
from benchmarks.soak.sampling import BOUNDS, Sampler, Series
from benchmarks.soak.scene import LoadProcess, SoakWorker, make_topics, settings_of
from benchmarks.soak.trend import Trend, judge
from stream_app.kafka_server import KafkaServer
from stream_app.sender import open_sender
from stream_app.settings import Settings

_USERS_PER_RATE = 3
"""Active users for every event per second: each acts every three seconds, for about a minute."""


@dataclass(frozen=True)
class SoakPlan:
    """How long, how hard."""

    minutes: float = 30.0
    cycle_s: float = 120.0
    """Half of it one worker, half of it two: a rebalance every minute."""
    warm_up_s: float = 360.0
    """Users that come and go must balance, caches fill, and the first segments be compacted."""
    burst_s: float = 15.0
    share: float = 0.5
    """Of the measured capacity."""
    rate_max: float = 0.0
    """Events per second at most, for a machine that others use, too; 0: no such bound."""
    sample_s: float = 5.0
    encoder: str = "transformer"
    smoke: bool = False
    """So short that nothing is judged."""
    partitions: int = 4
    """So few that the changelog's first segments are full, and compacted, within the warm-up."""
    speed: float = 30.0
    """Event time runs so much faster than the clock."""


@dataclass
class Soaked:
    """What a soak gave."""

    plan: SoakPlan
    capacity: float
    rate: float
    series: dict[str, Series]
    second_worker: list[tuple[float, float]] = field(default_factory=list)
    """When it was there, in seconds since the soak began."""
    trends: list[Trend] = field(default_factory=list)
    expired: int = 0
    strays: list[str] = field(default_factory=list)
    """Users with an update but no window at the end, or with a window that counts but no update."""
    users_left: int = 0

    def failures(self) -> list[str]:
        """Return one line per thing that is wrong."""
        found = [
            f"{trend.name} grows by {trend.per_hour:+.0%} an hour "
            f"(surely over {trend.low:+.0%}, allowed {trend.bound:+.0%})"
            for trend in self.trends
            if trend.fails
        ]
        unjudged = [trend.name for trend in self.trends if not trend.judged]
        if unjudged and not self.plan.smoke:
            found.append(f"too short for a verdict on {', '.join(unjudged)}: take more minutes")
        if not self.expired:
            found.append("nobody expired")
        if self.strays:
            found.append(f"{len(self.strays)} users have an update without a window or the reverse")
        return found


def soak(plan: SoakPlan, folder: Path) -> Soaked:
    """Run it all in ``folder``."""
    with KafkaServer(folder / "kafka") as kafka:
        raw = settings_of(kafka.bootstrap, plan.encoder, plan.partitions)
        settings = Settings(**raw)  # type: ignore[arg-type]
        asyncio.run(make_topics(settings))
        asyncio.run(_publish_items(settings))
        with _stopping(SoakWorker("first", folder, raw)) as first:
            first.start().wait(
                lambda status: (
                    status["state"] == "running"
                    and status["counts"]["item_vectors_published"] >= ITEMS
                ),
                "catalogue with vectors",
            )
            return _Course(plan, folder, settings, raw, first).run()


class _Course:
    def __init__(
        self,
        plan: SoakPlan,
        folder: Path,
        settings: Settings,
        raw: dict[str, object],
        first: SoakWorker,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._settings = settings
        self._first = first
        self._second = SoakWorker("second", folder, raw)
        self._epoch_s = time.time()
        self._base_ms = int((self._epoch_s - (plan.minutes * 60 + 600) * plan.speed) * 1000)
        self._lines = folder / "load.jsonl"
        self._there: list[tuple[float, float]] = []

    def run(self) -> Soaked:
        """Return what it gave."""
        capacity, sent = self._capacity()
        plan = self._plan
        rate = capacity * plan.share
        if plan.rate_max:
            rate = min(rate, plan.rate_max)
        print(
            f"capacity {capacity:,.0f} events/s, load {rate:,.0f} for {plan.minutes:g} min",
            flush=True,
        )
        load = self._load(rate, plan.minutes * 60, sent)
        try:
            with self._sampler() as sampler, _stopping(self._second):
                self._cycles(load, sampler)
                self._drained()
        finally:
            load.end()
        expired = self._first.status()["counts"]["expired"]
        self._first.stop()
        series = sampler.series | sampling.of_load(self._lines, self._epoch_s)
        alive = asyncio.run(leftovers.with_update(self._settings))
        windows = leftovers.windows(self._first.datadir, self._settings.window_policy().sweep_ms)
        return Soaked(
            plan,
            capacity,
            rate,
            series,
            self._there,
            self._trends(series),
            expired,
            strays=windows.strays(alive),
            users_left=len(windows.users()),
        )

    def _capacity(self) -> tuple[float, int]:
        """Send as fast as it goes, and return events per second until all is published.

        Twice: the first burst tells how many users are active at such a rate, and the second is
        of so many. Of few users many events would share an update, and cost less than in the soak.
        """
        rate, first_number = 1_000.0, 0
        for _ in range(2):
            began_s = time.monotonic()
            load = self._load(0, self._plan.burst_s, first_number, active_at=rate)
            while load.runs():
                self._first.must_run()
                time.sleep(0.1)
            sent = json.loads(self._lines.read_text().splitlines()[-1])["sent"]
            first_number += sent
            self._drained()
            rate = sent / (time.monotonic() - began_s)
            self._lines.unlink()
        return rate, first_number

    def _load(
        self, rate: float, seconds: float, first_number: int, active_at: float = 0.0
    ) -> LoadProcess:
        """Start the load; its users are as many as at ``active_at`` events/s, or else ``rate``."""
        settings, plan = self._settings, self._plan
        load = LoadPlan(
            bootstrap=settings.bootstrap_servers,
            events_topic=settings.events_topic,
            updates_topic=settings.updates_topic,
            rate=rate,
            seconds=seconds,
            active=int((active_at or rate) * _USERS_PER_RATE),
            first_number=first_number,
            base_ms=self._base_ms,
            epoch_s=self._epoch_s,
            speed=plan.speed,
            lines=str(self._lines),
        )
        return LoadProcess(load, self._folder)

    def _sampler(self) -> Sampler:
        settings = self._settings
        kept = {
            "changelog in Kafka": settings.changelog_topic,
            "updates in Kafka": settings.updates_topic,
        }
        data = self._folder / "kafka" / "data"
        return Sampler(
            self._epoch_s,
            self._plan.sample_s,
            lambda: sampling.sample(self._first.pid, self._first.datadir, data, kept),
        )

    def _cycles(self, load: LoadProcess, sampler: Sampler) -> None:
        """Let the second worker come for the second half of every cycle, until the load ends."""
        began_s = time.monotonic()
        came_s = 0.0
        while load.runs():
            self._first.must_run()
            if sampler.failure is not None:
                raise sampler.failure
            phase_s = (time.monotonic() - began_s) % self._plan.cycle_s
            wanted = phase_s >= self._plan.cycle_s / 2
            if wanted and not came_s:
                self._second.start()
                came_s = time.time() - self._epoch_s
            elif came_s and not wanted and self._second.status().get("state") == "running":
                came_s = self._leave(came_s)
            elif came_s:
                self._second.must_run()
            time.sleep(0.1)
        if came_s:
            self._second.wait(lambda status: status["state"] == "running", "partitions")
            self._leave(came_s)

    def _leave(self, came_s: float) -> float:
        """Let the second worker go, and return 0: it is not there."""
        self._second.stop()
        self._there.append((came_s, time.time() - self._epoch_s))
        return 0.0

    def _drained(self) -> None:
        everything = list(range(self._plan.partitions))
        self._first.wait(
            lambda status: (
                status["state"] == "running"
                and status["partitions"] == everything
                and not status["backlog"]
                and not status["dirty"]
            ),
            "end of the backlog",
        )

    def _trends(self, series: dict[str, Series]) -> list[Trend]:
        plan = self._plan
        return [
            judge(
                bound,
                series[bound.name].times_s,
                series[bound.name].values,
                warm_up_s=plan.warm_up_s,
                block_s=plan.cycle_s,
            )
            for bound in BOUNDS
            if bound.name in series
        ]


@contextlib.contextmanager
def _stopping(worker: SoakWorker) -> Iterator[SoakWorker]:
    try:
        yield worker
    finally:
        worker.stop()


async def _publish_items(settings: Settings) -> None:
    async with open_sender(settings.bootstrap_servers) as sender:
        for key, value in catalogue():
            await sender.send(settings.items_topic, key, value)
