"""What one sees while the demo runs: a live table, or a line now and then without a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from stream_app.demo_observer import Observer
from stream_app.demo_report import cache_hits, milliseconds

_LIVE_EVERY_S = 0.25
_PLAIN_EVERY_S = 2.0


@dataclass(frozen=True)
class Figures:
    """One moment of the run."""

    sent: int
    total: int
    rate: float
    users: int
    backlog: int
    hits: str
    p50: str
    p99: str


def figures(
    sent: int,
    total: int,
    rate: float,
    status: Mapping[str, Any],
    encoded_before: int,
    observer: Observer,
) -> Figures:
    """Return what is worth seeing now; latencies are of the last moments."""
    return Figures(
        sent,
        total,
        rate,
        observer.users_seen(),
        int(status.get("backlog", 0)),
        cache_hits(status.get("counts", {}), encoded_before),
        milliseconds(observer.latency_ms(0.5, recent=True)),
        milliseconds(observer.latency_ms(0.99, recent=True)),
    )


class View:
    """Shows ``moment()`` again and again until the block is left."""

    def __init__(self, console: Console, moment: Callable[[], Figures]) -> None:
        self._console = console
        self._moment = moment
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self._live is not None:
            self._live.start()
        self._task = asyncio.create_task(self._show())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        self._draw()
        if self._live is not None:
            self._live.stop()

    async def _show(self) -> None:
        every_s = _LIVE_EVERY_S if self._live is not None else _PLAIN_EVERY_S
        while True:
            await asyncio.sleep(every_s)
            self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(_table(self._moment()), refresh=True)
        else:
            self._console.print(_line(self._moment()), soft_wrap=True)


class Rate:
    """Events per second since the last look that was at least half a second ago."""

    def __init__(self) -> None:
        self._count = 0
        self._at = time.perf_counter()
        self._rate = 0.0

    def of(self, count: int) -> float:
        """Return the rate, given the count of now."""
        now = time.perf_counter()
        if now - self._at >= 0.5:
            self._rate = (count - self._count) / (now - self._at)
            self._count, self._at = count, now
        return self._rate


def _line(now: Figures) -> str:
    return (
        f"{now.sent:,}/{now.total:,} events, {now.rate:,.0f} events/s, {now.users:,} users, "
        f"backlog {now.backlog:,}, text-cache hits {now.hits}, "
        f"event to update p50 {now.p50}, p99 {now.p99}"
    )


def _table(now: Figures) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("events", ProgressBar(now.total, now.sent, width=40))
    table.add_row("", f"{now.sent:,} of {now.total:,}")
    table.add_row("events/s", f"{now.rate:,.0f}")
    table.add_row("users", f"{now.users:,}")
    table.add_row("backlog", f"{now.backlog:,}")
    table.add_row("text-cache hits", now.hits)
    table.add_row("event to update p50", now.p50)
    table.add_row("event to update p99", now.p99)
    return table
