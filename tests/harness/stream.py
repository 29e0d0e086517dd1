"""One test's stream: topics and a consumer group of its own, its workers, and the final check."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stream_app import topics
from stream_app.reader import UpdatesReader
from stream_app.settings import Settings
from tests.harness import checks, vectors
from tests.harness.background import CommitWatch, Feeder
from tests.harness.client import KafkaClient, Message, Record
from tests.harness.deadline import LONG_PATIENCE_S, PATIENCE_S, eventually
from tests.harness.load import POISON_KEY
from tests.harness.reference import Reference, replay
from tests.harness.worker import Worker

STOP_S = 20
PARTITIONS = 4
_NO_COMPACTION_MS = 3_600_000
_TOPICS = ("events", "items", "updates", "item_vectors", "dead_letters")
_numbers = itertools.count(1)

SMALL_AND_QUICK: dict[str, object] = {
    "encoder": "stub",
    "stub_dimensions": 8,
    "partitions": PARTITIONS,
    "window_max_events": 10,  # so that most windows of a test are full and events leave them
    "checkpoint_interval_ms": 200,
    "heartbeat_interval_s": 0.5,
    "broker_wait_s": 20,
    "stop_timeout_s": STOP_S,
    "rocksdb_block_cache_bytes": 1 << 20,
}


class Stream:
    """Topics under unique names on the session's broker, and the workers on them."""

    def __init__(
        self, client: KafkaClient, folder: Path, session_timeout_s: float, **changed: object
    ) -> None:
        number = next(_numbers)
        stem = f"{folder.name[:40]}-{number}"
        self.client = client
        self.folder = folder
        self.raw_settings: dict[str, object] = {
            **SMALL_AND_QUICK,
            "app_id": f"app-{stem}",
            "bootstrap_servers": client.bootstrap,
            "session_timeout_s": session_timeout_s,
            **{f"{name}_topic": f"{stem}.{name.replace('_', '-')}" for name in _TOPICS},
            **changed,
        }
        self.settings = Settings(**self.raw_settings)  # type: ignore[arg-type]
        self.workers: list[Worker] = []
        self.worker_module = "stream_app"
        self.poison: set[tuple[int, int]] = set()
        self.bundles: dict[str, Path] = {}
        """Model id -> bundle, of those that were served beside that of the settings."""
        self.tools: dict[str, Any] = {}
        """What a fault has prepared for itself, by a name of its own."""
        self.closing = ExitStack()
        """Closed when the stream is, after its workers."""
        self._feeders: list[Feeder] = []
        self._watch: CommitWatch | None = None

    def change(self, changed: Mapping[str, object]) -> None:
        """Take other settings for what is started and checked from here on."""
        self.raw_settings |= changed
        self.settings = Settings(**self.raw_settings)  # type: ignore[arg-type]

    def create_topics(self) -> Stream:
        """Create this stream's topics as ``topics create`` does."""
        asyncio.run(topics.create(self.settings))
        return self

    def publish(self, items: Sequence[Message]) -> None:
        """Write catalogue records."""
        self.client.produce(self.settings.items_topic, items)

    def send(self, events: Sequence[Message]) -> None:
        """Write events records and wait for their acknowledgement."""
        self.client.produce(self.settings.events_topic, events)

    def feed(self, events: Sequence[Message], over_s: float) -> Feeder:
        """Write events records in the background, spread over some seconds."""
        feeder = Feeder(self.client.bootstrap, self.settings.events_topic, events, over_s)
        self._feeders.append(feeder)
        return feeder

    def watch_commits(self) -> None:
        """Sample commits and effects until :meth:`verify`, which reads both topics again.

        What compaction removed in between could not bear witness: it has to wait until then.
        """
        for spec in topics.topic_specs(self.settings):
            if spec.name in (self.settings.changelog_topic, self.settings.updates_topic):
                lagging = spec.configs | {"min.compaction.lag.ms": str(_NO_COMPACTION_MS)}
                self.client.alter_topic(spec.name, lagging)
        self._watch = CommitWatch(
            self.client.bootstrap,
            self.settings.app_id,
            self.settings.events_topic,
            self.settings.changelog_topic,
            self.settings.updates_topic,
        )

    def worker(self, **changed: object) -> Worker:
        """Start another worker with a datadir of its own."""
        name = f"worker-{len(self.workers)}"
        settings = {**self.raw_settings, **changed}
        worker = Worker(name, self.folder / name, settings, self.worker_module)
        self.workers.append(worker)
        return worker.start()

    def start_workers(self, count: int) -> list[Worker]:
        """Start workers side by side; return when they share out all partitions."""
        started = [self.worker() for _ in range(count)]
        self.wait_shared(started)
        return started

    def wait_shared(self, workers: Sequence[Worker]) -> None:
        """Wait until every one of ``workers`` runs, and together they hold every partition once."""
        everything = list(range(self.settings.partitions))
        most_each = math.ceil(len(everything) / len(workers))
        busy_least = math.ceil(len(everything) / most_each)  # Faust may leave the rest without any

        def shared() -> bool:
            ready = all(worker.ready() for worker in workers)
            held = [worker.partitions() for worker in workers]
            busy = sum(map(bool, held))
            return ready and sorted(itertools.chain(*held)) == everything and busy >= busy_least

        eventually(
            shared,
            within_s=LONG_PATIENCE_S,
            what=lambda: f"{everything} shared out: {[w.status() for w in workers]}",
        )

    def drain(self, within_s: float = PATIENCE_S) -> None:
        """Wait until every event is committed."""
        topic = self.settings.events_topic
        ends = {number: end for number, end in self.client.ends(topic).items() if end}

        def drained() -> bool:
            for worker in self.workers:
                assert worker.alive or worker.ended_by_test, (
                    f"{worker.name} ended with {worker.exit_code()}\n{worker.log_tail()}"
                )
            committed = self.committed()
            return all(committed.get(number, 0) >= end for number, end in ends.items())

        eventually(
            drained, within_s=within_s, what=lambda: f"{ends} committed, {self.committed()} are"
        )

    def wait_published(self) -> None:
        """Wait until something is published in every partition: all workers are at it."""
        topic = self.settings.updates_topic
        eventually(
            lambda: all(self.client.ends(topic).values()),
            what=lambda: f"updates in every partition: {self.client.ends(topic)}",
        )

    def wait_healed(self) -> None:
        """Wait until no user's last record is older than an earlier one.

        What a frozen worker wrote behind its successor may lie there for a moment, not for good.
        """
        eventually(
            lambda: not checks.outdated(self.changelog()) and not checks.outdated(self.updates()),
            within_s=LONG_PATIENCE_S,
            what=lambda: (
                f"outdated in the changelog: {checks.outdated(self.changelog())}, "
                f"in the updates: {checks.outdated(self.updates())}"
            ),
        )

    def committed(self) -> dict[int, int]:
        """Return the committed offsets of the events topic."""
        return self.client.committed(self.settings.app_id, self.settings.events_topic)

    def stop_workers(self) -> None:
        """SIGTERM to all that run: each exits 0 in time."""
        running = [worker for worker in self.workers if worker.alive]
        for worker in running:
            worker.ask_to_stop()
        for worker in running:
            code = worker.wait(STOP_S + 5)
            assert code == 0, f"{worker.name} exited {code}\n{worker.log_tail()}"

    def reference(self) -> Reference:
        """Return what the events topic as it lies there must lead to."""
        settings = self.settings
        events = self.events()
        poison = self.poison | {
            (record.partition, record.offset)
            for record in events
            if (record.key or b"").startswith(POISON_KEY)
        }
        return replay(
            events,
            max_events=settings.window_max_events,
            max_age_ms=settings.window_max_age_ms,
            expiry_ms=settings.window_expiry_ms,
            poison=poison,
        )

    def swept(self) -> Reference:
        """Return the same once all silent users are gone."""
        settings = self.settings
        return self.reference().sweep(settings.window_max_age_ms, settings.window_expiry_ms)

    def wait_swept(self) -> None:
        """Wait until the windows in the changelog are those of the users that are not silent."""
        wanted = set(self.swept().users)

        def left() -> set[str]:
            return set(checks.windows_in(self.changelog()))

        eventually(
            lambda: left() == wanted,
            what=lambda: f"windows too many or missing: {sorted(left() ^ wanted)[:20]}",
        )

    def events(self) -> list[Record]:
        """Return the events topic."""
        return self.client.read(self.settings.events_topic)

    def changelog(self) -> list[Record]:
        """Return the changelog topic."""
        return self.client.read(self.settings.changelog_topic)

    def updates(self) -> list[Record]:
        """Return the updates topic."""
        return self.client.read(self.settings.updates_topic)

    def as_read(self, model_id: str | None) -> UpdatesReader:
        """Return a reader, of one model or of all, that has read all updates there are."""

        async def follow() -> UpdatesReader:
            topic = self.settings.updates_topic
            async with UpdatesReader(self.client.bootstrap, topic, model_id=model_id) as reader:
                await reader.catch_up()
                return reader

        return asyncio.run(follow())

    def counts(self) -> dict[str, int]:
        """Return the sum of all workers' counters, each since its last start."""
        total: dict[str, int] = {}
        for worker in self.workers:
            for name, count in worker.status().get("counts", {}).items():
                total[name] = total.get(name, 0) + count
        return total

    def verify(self, on_disk: Sequence[Worker] | None = None, *, swept: bool = False) -> Reference:
        """Stop the workers and check every promise of the design; return the reference.

        ``swept``: silent users must be gone, as they are after :meth:`wait_swept`. ``on_disk``:
        whose RocksDB must hold the windows (of the partitions held at the end).
        """
        self.drain()
        held = {worker.name: worker.partitions() for worker in self.workers if worker.alive}
        self.stop_workers()
        reference = self.swept() if swept else self.reference()
        changelog, updates = self.changelog(), self.updates()
        committed = {number: end for number, end in self.committed().items() if end}
        ends = {n: end for n, end in self.client.ends(self.settings.events_topic).items() if end}
        assert committed == ends, "a clean stop commits everything, and nothing more"
        where = f"changelog ({_extent(changelog)})"
        checks.assert_same_windows(reference, checks.windows_in(changelog), where)
        checks.assert_tombstones(reference, changelog, "changelog")
        on_disk = [w for w in self.workers if w.name in held] if on_disk is None else on_disk
        stored = checks.windows_on_disk({w.datadir: held[w.name] for w in on_disk})
        checks.assert_same_windows(reference, stored, "RocksDB")
        self.verify_updates(reference, updates)
        checks.assert_buried(reference, self.client.read(self.settings.dead_letters_topic))
        self._judge_commits(reference, changelog, updates)
        return reference

    def verify_commits(self) -> None:
        """Check the commits seen so far and watch no more: before something removes effects."""
        self._judge_commits(self.reference(), self.changelog(), self.updates())

    def _judge_commits(
        self, reference: Reference, changelog: list[Record], updates: list[Record]
    ) -> None:
        if self._watch is not None:
            samples, self._watch = self._watch.stop(), None
            assert samples, "no commit was seen"
            checks.assert_nothing_committed_ahead(samples, reference, changelog, updates)

    def verify_updates(self, reference: Reference, updates: list[Record]) -> None:
        """The last update of every user is right, as a reader of the topic sees it."""
        texts = self.item_texts()
        checks.assert_tombstones(reference, updates, "updates")
        wanted = vectors.of_users(reference, texts, self.settings)
        for model_id, bundle in self.bundles.items():
            served = self.settings.model_copy(update={"model": str(bundle)})
            theirs = vectors.of_users(reference, texts, served)
            wanted |= {user: theirs[user] for user in checks.users_of_model(updates, model_id)}
        checks.assert_last_updates(reference, updates, wanted)

    def item_texts(self) -> dict[str, str]:
        """Return item id -> text as the items topic stands."""
        return checks.item_texts(self.client.read(self.settings.items_topic))

    def describe(self) -> list[tuple[str, str]]:
        """Return what a person wants to see of a failed test."""
        return [
            (f"{worker.name} (pid {worker.pid}, exit {worker.exit_code()})", worker.log_tail())
            for worker in self.workers
        ]

    def close(self) -> None:
        """End everything this stream started and delete its topics."""
        for feeder in self._feeders:
            feeder.stop()
        if self._watch is not None:
            self._watch.stop()
        for worker in self.workers:
            worker.destroy()
        self.closing.close()
        own: list[Any] = [getattr(self.settings, f"{name}_topic") for name in _TOPICS]
        own += [self.settings.changelog_topic, self.settings.app_id]
        shadows = [
            name
            for name in self.client.topics()
            if any(name.startswith(f"{each}-replay-") for each in own)
        ]
        self.client.delete_topics([*own, *shadows])


def _extent(records: Sequence[Record]) -> str:
    """Say how much of a topic was read: what is missing was not written, or not read."""
    firsts = {record.partition: record.offset for record in reversed(records)}
    lasts = {record.partition: record.offset for record in records}
    tombstones = sum(record.value is None for record in records)
    ranges = ", ".join(f"{number}: {firsts[number]}..{lasts[number]}" for number in sorted(lasts))
    return f"{len(records)} records, {tombstones} of them tombstones; {ranges}"
