"""What a soak runs on: a Kafka of its own, topics as ``topics create`` makes them, workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.soak.load import LoadPlan
from stream_app import child_process, topics
from stream_app.settings import Settings

HOUR_MS = 3_600_000
_START_S = 180.0
_STOP_S = 60.0

ACCELERATED: dict[str, object] = {
    "window_max_age_ms": HOUR_MS,
    "window_expiry_ms": HOUR_MS // 2,
    "hot_windows_max": 5_000,  # far fewer than users: RocksDB is read, not only written
    "text_cache_rows": 4_096,
    "text_cache_bytes": 12 << 20,  # both full within the warm-up, so that rows and files go
    "update_format": "avro",
    "app_id": "soak",
}
"""An hour of age and half an hour of expiry: at thirty times the clock, who falls silent is
forgotten after four minutes."""

_EVENTS_KEPT = {"retention.bytes": str(64 << 20), "segment.bytes": str(16 << 20)}
"""Of each events partition; the changelog and the updates are as the worker's users have them."""


class SoakWorker:
    """One worker process on a datadir of its own; it may be started again."""

    def __init__(
        self, name: str, folder: Path, settings: dict[str, object], module: str = "stream_app"
    ) -> None:
        self.name = name
        self._module = module
        self.datadir = folder / name
        self._settings = settings | {"datadir": self.datadir}
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> SoakWorker:
        """Start it."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("INTEREST_")}
        own = {f"INTEREST_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self.log.open("ab") as log:
            self._process = child_process.start_bound(
                [sys.executable, "-m", self._module, "worker"], output=log, env=kept | own
            )
        return self

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        assert self._process is not None
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """Return what it says of itself; empty before it says anything."""
        try:
            found: dict[str, Any] = json.loads((self.datadir / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return found if found.get("pid") == self.pid else {}

    def must_run(self) -> None:
        """Raise with the end of its log if it has ended."""
        if self._process is None or self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} has ended by itself; the end of its log:\n{tail}")

    def wait(
        self,
        condition: Callable[[dict[str, Any]], bool],
        what: str,
        within_s: float = _START_S,
    ) -> dict[str, Any]:
        """Wait until its status fulfils a condition, and return it."""
        deadline = time.monotonic() + within_s
        while True:
            self.must_run()
            status = self.status()
            if status and condition(status):
                return status
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: no {what} within {within_s} s: {status}")
            time.sleep(0.2)

    def stop(self) -> None:
        """SIGTERM; it must exit with 0."""
        if self._process is not None:
            code = child_process.stop(self._process, _STOP_S)
            self._process = None
            if code != 0:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.name} exited with {code}:\n{tail}")


class LoadProcess:
    """The load beside the workers."""

    def __init__(self, plan: LoadPlan, folder: Path) -> None:
        path = plan.save(folder / f"load-{plan.first_number}.json")
        self._log = path.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = child_process.start_bound(
                [sys.executable, "-m", "benchmarks.soak.load", str(path)], output=log
            )

    def runs(self) -> bool:
        """Whether it is still at it; raises if it failed."""
        code = self._process.poll()
        if code:
            raise RuntimeError(f"the load ended with {code}:\n{self._log.read_text()[-3000:]}")
        return code is None

    def end(self) -> None:
        """End it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def settings_of(bootstrap: str, encoder: str, partitions: int) -> dict[str, object]:
    """Return the workers' settings but for the datadir."""
    return ACCELERATED | {
        "bootstrap_servers": bootstrap,
        "encoder": encoder,
        "partitions": partitions,
    }


async def make_topics(settings: Settings) -> None:
    """Create the topics as an operator does, but for how long events are kept."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(settings.events_topic, settings.partitions, 1, topic_configs=_EVENTS_KEPT)]
        )
    finally:
        await admin.close()
    await topics.create(settings)
