"""What the worker says of itself: counters, the event loop's lag, and status.json."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

log = logging.getLogger("stream_app.status")

_LAG_PROBE_S = 0.01
_LAG_SAMPLES = 6000
"""One minute of probes."""
_WRITE_EVERY_S = 1.0


class Counts(msgspec.Struct):
    """Totals since the worker started. Every record taken ends in exactly one of the first six."""

    folded: int = 0
    redelivered: int = 0
    duplicate: int = 0
    late: int = 0
    forgotten: int = 0
    dead_letters: int = 0
    records: int = 0
    updates_published: int = 0
    tombstones: int = 0
    expired: int = 0
    item_vectors_published: int = 0
    items_refused: int = 0
    unknown_items: int = 0
    texts_encoded: int = 0
    tokens: int = 0
    text_hits_memory: int = 0
    text_hits_disk: int = 0
    texts_failed: int = 0
    media_refused: int = 0
    users_failed: int = 0
    micro_batches: int = 0
    checkpoints: int = 0
    windows_stored: int = 0
    intrusions: int = 0
    skipped: int = 0
    """Records of users whom a replay leaves out; they are not among ``records``."""
    delivery_retries: int = 0
    encoder_restarts: int = 0


class LoopLag:
    """How late the event loop runs its callbacks, probed every 10 ms."""

    def __init__(self) -> None:
        self._late_ms: collections.deque[float] = collections.deque(maxlen=_LAG_SAMPLES)
        self.max_ms = 0.0

    async def watch(self) -> None:
        """Probe for ever."""
        while True:
            due = time.perf_counter() + _LAG_PROBE_S
            await asyncio.sleep(_LAG_PROBE_S)
            late_ms = max(0.0, (time.perf_counter() - due) * 1000)
            self._late_ms.append(late_ms)
            self.max_ms = max(self.max_ms, late_ms)

    def percentile_ms(self, share: float) -> float:
        """Return the lag that ``share`` of the last minute's probes stayed under."""
        return self.percentiles_ms([share])[0]

    def percentiles_ms(self, shares: Sequence[float]) -> list[float]:
        """Return the same for several shares."""
        ordered = sorted(self._late_ms) or [0.0]
        return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]


class StatusFile:
    """status.json in the datadir: replaced whole about once a second, so a reader never sees half.

    ``describe`` returns what is true now; it must not wait.
    """

    def __init__(self, path: Path, describe: Callable[[], dict[str, Any]]) -> None:
        self.path = path
        self._describe = describe
        self._process = psutil.Process()
        self._said_unwritable = False

    def write(self) -> None:
        """Write the status now."""
        status = {"pid": os.getpid(), **self._describe()}
        status["memory_bytes"] = self._process.memory_info().rss
        draft = self.path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.encode(status))
        draft.replace(self.path)

    async def keep_fresh(self) -> None:
        """Write the status for ever."""
        while True:
            self.try_to_write()
            await asyncio.sleep(_WRITE_EVERY_S)

    def try_to_write(self) -> None:
        """Write the status; a full disk is told of once, for the stream can do without status."""
        try:
            self.write()
        except OSError as error:
            if not self._said_unwritable:
                log.warning("%s cannot be written: %s", self.path, error)
            self._said_unwritable = True
        else:
            self._said_unwritable = False
