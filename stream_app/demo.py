"""The whole stream on MovieLens-1M: a Kafka, a worker, a producer and an independent reader.

Every number at the end is counted twice, by the worker and from the outside, and must agree.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer
from rich.console import Console

from stream_app import demo_report, movielens, topics
from stream_app.demo_observer import Observer
from stream_app.demo_view import Figures, Rate, View, figures
from stream_app.demo_worker import Child, DemoFailed, read_status
from stream_app.kafka_server import KafkaServerError, external_bootstrap, open_kafka, running_pid
from stream_app.sender import open_sender, paced
from stream_app.settings import Settings, load
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.user_view import read_item_space

_RATE_MIN = 1_000.0
_PLAY_S = 60.0
"""Without a rate, more events are played faster, so that any number takes a minute at most (where
the machine keeps up). 20,000 come at 1,000/s: at full speed the latencies would be of a queue."""

_START_S = 120.0
_CATCH_UP_S = 120.0
_SETTLE_S = 15.0
"""For the counters of a worker that is kept running: it writes them about once a second."""


@dataclass(frozen=True)
class Options:
    """How the demo is run."""

    directory: Path
    events: int
    rate: float
    keep: bool


def run(options: Options, config: Path | None) -> int:
    """Run the demo and return the exit code: 0 if every sum comes out, 1 if not.

    However it ends, nothing it started is left running.

    Raises:
        InterestStreamError: a part could not be started or did not do its work.
    """
    # A shell that starts us in the background has SIGINT ignored; a stop must work all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console()
    _make_room(options.directory)
    console.print("starting Kafka")
    with open_kafka(options.directory / "kafka") as bootstrap:
        settings = _settings(options, bootstrap, config)
        console.print(f"Kafka answers on {bootstrap}")
        return asyncio.run(_Demo(options, settings, console).play())


def _make_room(directory: Path) -> None:
    """Remove what the last run left, but for the interest model, which costs time to make."""
    if running_pid(directory / "kafka") is not None:
        raise KafkaServerError(f"a demo already runs in {directory}; stop that one first")
    for name in ("kafka", "worker"):
        shutil.rmtree(directory / name, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    for log in directory.glob("*.log"):
        log.unlink()


def _settings(options: Options, bootstrap: str, config: Path | None) -> Settings:
    # On a Kafka that was there before, earlier runs have left their topics.
    name = f"demo-{time.time_ns() // 1_000_000}" if external_bootstrap() else "interest"
    return load(
        config=config,
        overrides={
            "app_id": f"{name}-stream",
            "bootstrap_servers": bootstrap,
            "datadir": options.directory / "worker",
            "update_format": "json",
            "publish_item_vectors": True,
            **{
                f"{topic.replace('-', '_')}_topic": f"{name}.{topic}"
                for topic in ("events", "items", "updates", "item-vectors", "dead-letters")
            },
        },
    )


class _Demo:
    """The run between Kafka's start and its stop."""

    def __init__(self, options: Options, settings: Settings, console: Console) -> None:
        self._options = options
        self._settings = settings
        self._console = console
        self._observer = Observer()
        self._catalogue = movielens.items()
        self._played = movielens.ratings(options.events)
        self._acknowledged = 0

    async def play(self) -> int:
        """Return the exit code."""
        created = await topics.create(self._settings)
        self._console.print(f"created {len(created)} topics: {', '.join(created)}", soft_wrap=True)
        await self._publish_catalogue()
        await self._make_interest_model()
        async with self._worker() as worker:
            async with open_consumer(self._settings.kafka, self._settings.updates_topic) as updates:
                took_s = await self._play_events(worker, updates)
                if not self._options.keep:
                    await self._stop(worker)
                await self._settle(updates)
            code = await self._report(took_s)
            if self._options.keep:
                await self._stay(worker)
        return code

    async def _publish_catalogue(self) -> None:
        topic = self._settings.items_topic
        async with open_sender(self._settings.kafka) as sender:
            for item in self._catalogue:
                await sender.send(topic, item["item_id"].encode(), orjson.dumps(item))
        self._console.print(f"published {sender.acknowledged:,} films on {topic}")

    async def _make_interest_model(self) -> None:
        """Make the interest model's folder, unless an earlier run has or the stub needs none."""
        if self._settings.encoder == "stub" or self._settings.interest_model:
            return
        lines = b"\n".join(orjson.dumps(item) for item in self._catalogue)
        made_of = hashlib.sha256(lines + self._settings.text_model.encode()).hexdigest()[:12]
        directory = self._options.directory
        folder = directory / f"interest-{made_of}"
        if not folder.exists():
            self._console.print("making the interest model of the catalogue (once)")
            items, draft = directory / "catalogue.jsonl", directory / "interest-draft"
            items.write_bytes(lines)
            shutil.rmtree(draft, ignore_errors=True)
            arguments = ["model", "init", "--items", str(items), "--out", str(draft)]
            child = Child(arguments, self._settings, directory / "model.log")
            try:
                await child.finished()
            finally:
                child.stop(grace_s=5)
            draft.rename(folder)  # whole or not at all
        self._settings = self._settings.model_copy(update={"interest_model": str(folder)})

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Child]:
        """Start the worker and yield it when it works; leave none behind."""
        self._console.print("starting a worker")
        worker = Child(["worker"], self._settings, self._options.directory / "worker.log")
        try:
            await self._until(worker, self._is_running, "work on all partitions", _START_S)
            self._console.print(
                f"the worker runs (process {worker.process.pid}, "
                f"{read_status(self._settings)['encoder_backend']}); "
                f"embedding {len(self._catalogue):,} films"
            )
            await self._until(worker, self._knows_items, "embed the catalogue", _START_S)
            yield worker
        finally:
            worker.stop(self._settings.stop_timeout_s)

    def _is_running(self) -> bool:
        status = read_status(self._settings)
        assigned = len(status.get("partitions", ()))
        return status.get("state") == "running" and assigned == self._settings.partitions

    def _knows_items(self) -> bool:
        return self._counts().get("item_vectors_published", 0) >= len(self._catalogue)

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = read_status(self._settings).get("counts", {})
        return counts

    async def _until(
        self, worker: Child, true: Callable[[], bool], what: str, within_s: float
    ) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            worker.check_alive()
            if time.monotonic() > deadline:
                raise DemoFailed(f"the worker did not {what} within {within_s:.0f} s")
            await asyncio.sleep(0.1)

    async def _play_events(self, worker: Child, updates: AIOKafkaConsumer) -> float:
        """Play the ratings, read the updates beside it; return the seconds until the last one."""
        rate = Rate()
        encoded_before = self._counts().get("texts_encoded", 0)

        def moment() -> Figures:
            status = read_status(self._settings)
            pace = rate.of(int(status["counts"]["records"]))
            sent, total = self._acknowledged, len(self._played)
            return figures(sent, total, pace, status, encoded_before, self._observer)

        start = time.perf_counter()
        reading = asyncio.create_task(self._read(updates))
        try:
            async with View(self._console, moment):
                await self._send_events(worker)
                await self._until(
                    worker, self._caught_up, "bring every user up to date", _CATCH_UP_S
                )
        finally:
            reading.cancel()
        return time.perf_counter() - start

    async def _send_events(self, worker: Child) -> None:
        rate = self._options.rate or max(_RATE_MIN, len(self._played) / _PLAY_S)
        topic = self._settings.events_topic
        records = (
            (rating.user_id.encode(), orjson.dumps(movielens.event(rating)))
            for rating in self._played
        )

        def acknowledged(key: bytes, partition: int, offset: int, sent_at: float) -> None:
            self._acknowledged += 1
            self._observer.sent(key, partition, offset, sent_at)

        async with open_sender(self._settings.kafka) as sender:
            async for key, value in paced(records, rate):
                await sender.send(topic, key, value, acknowledged)
        worker.check_alive()

    async def _read(self, updates: AIOKafkaConsumer) -> None:
        async for record in updates:
            self._observer.read(record)

    def _caught_up(self) -> bool:
        return not self._observer.users_behind()

    async def _stop(self, worker: Child) -> None:
        """Stop the worker as an operator would; it must go cleanly, its last counts written."""
        exit_code = await asyncio.to_thread(worker.stop, self._settings.stop_timeout_s + 10)
        if exit_code != 0:
            raise DemoFailed(f"the worker stopped with exit code {exit_code}, see worker.log")

    async def _settle(self, updates: AIOKafkaConsumer) -> None:
        """Read what is left of the updates; wait for the counts of a worker that still runs."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            async for record in to_the_end(updates):
                self._observer.read(record)
            if all(check.holds for check in self._checks()) or not self._options.keep:
                return
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.5)

    def _checks(self) -> list[demo_report.Check]:
        users = len({rating.user_id for rating in self._played})
        return demo_report.checks(self._acknowledged, users, self._counts(), self._observer)

    async def _report(self, took_s: float) -> int:
        console, observer = self._console, self._observer
        space = await read_item_space(self._settings, read_status(self._settings)["model_id"])
        console.print()
        demo_report.show_users(console, self._played, observer, space)
        demo_report.show_totals(console, self._acknowledged, took_s, self._counts(), observer)
        console.print()
        found = self._checks()
        demo_report.show_checks(console, found)
        return 0 if all(check.holds for check in found) else 1

    async def _stay(self, worker: Child) -> None:
        """Print the addresses and wait for Ctrl-C."""
        settings = self._settings
        self._console.print(
            f"\nstill up, until Ctrl-C:\n"
            f"  Kafka    {settings.kafka}\n"
            f"  worker   process {worker.process.pid}, {settings.datadir / 'status.json'}\n"
            f"  events   {settings.events_topic}\n"
            f"  updates  {settings.updates_topic}\n"
            f"  try      INTEREST_BOOTSTRAP_SERVERS={settings.kafka} "
            f"interest-stream tail updates",
            soft_wrap=True,
        )
        try:
            while True:
                worker.check_alive()
                await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            return  # the Ctrl-C that was waited for
