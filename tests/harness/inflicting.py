"""Plays a plan on a real Kafka and holds the outcome against every promise."""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream_app.kafka_server import KafkaServer
from tests.harness import accounts
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.deadline import LONG_PATIENCE_S
from tests.harness.following import Followed, Follower
from tests.harness.plan import Plan
from tests.harness.scene import Scene
from tests.harness.stream import Stream
from tests.harness.worker import Worker

FIRST_FAULT_AT = (0.05, 0.4)
"""Share of the load that is sent when the first fault comes."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    plan: Plan
    seconds: float
    error: str = ""
    """Of a failed one, the traceback."""
    events: int = 0
    stale_written: int = 0
    """Records that a zombie wrote behind newer ones."""
    stale_windows: int = 0
    """Of these, windows in the changelog; the others are updates."""
    compacted: int = 0
    """Records that a forced compaction removed."""
    stale_dropped: int = 0
    """Records older than an earlier one, which the reader's rule dropped."""
    intrusions: int = 0
    """Times that an owner noticed another's records in its logs."""
    lives: int = 0
    """Starts of workers."""

    @property
    def passed(self) -> bool:
        """Whether every promise held."""
        return not self.error


def play(plan: Plan, bootstrap: str, folder: Path) -> Outcome:
    """Play a plan on topics of its own; of a failed one the folder stays, with its logs."""
    started = time.monotonic()
    folder.mkdir(parents=True)
    try:
        with _stage(plan, bootstrap, folder) as (stream, broker):
            try:
                events, followed = _play(plan, stream, broker)
            except BaseException:
                _keep_logs(stream, folder)
                raise
            counts = accounts.totals(stream.workers)
    except Exception:  # noqa: BLE001 - a failed plan is a result; the others go on
        seconds = time.monotonic() - started
        error = traceback.format_exc()
        (folder / "error.txt").write_text(f"{plan!r}\n{error}")
        return Outcome(plan, seconds, error)
    shutil.rmtree(folder)
    return Outcome(
        plan,
        time.monotonic() - started,
        events=events,
        stale_written=stream.tools.get("stale_written", 0),
        stale_windows=stream.tools.get("stale_windows", 0),
        compacted=stream.tools.get("compacted", 0),
        stale_dropped=followed.dropped,
        intrusions=counts["intrusions"],
        lives=accounts.lives(stream.workers),
    )


@contextmanager
def _stage(plan: Plan, bootstrap: str, folder: Path) -> Iterator[tuple[Stream, KafkaServer | None]]:
    with ExitStack() as stack:
        makers = [spec.own_broker for spec in plan.specs if spec.own_broker is not None]
        broker = stack.enter_context(makers[0](folder / "kafka")) if makers else None
        client = KafkaClient(broker.bootstrap if broker is not None else bootstrap)
        stack.callback(client.close)
        stream = Stream(client, folder, SESSION_TIMEOUT_S, **plan.settings)
        stack.callback(stream.close)
        stream.worker_module = plan.worker_module
        stream.create_topics()
        for spec in plan.specs:
            if spec.prepare is not None:
                spec.prepare(stream, broker)
        yield stream, broker


def _play(plan: Plan, stream: Stream, broker: KafkaServer | None) -> tuple[int, Followed]:
    random_ = random.Random(f"faults {plan.seed}")
    stream.publish(plan.load.catalogue())
    workers = stream.start_workers(plan.workers)
    stream.watch_commits()
    follower = Follower(stream.client.bootstrap, stream.settings.updates_topic)
    stream.closing.callback(follower.give_up)
    feeder = stream.feed(plan.load.messages(), plan.over_s)
    scene = Scene(stream, workers, feeder, broker)
    feeder.wait_for(random_.uniform(*FIRST_FAULT_AT))
    for spec in plan.specs:
        spec.inflict(scene, random_)
    feeder.finish()
    stream.drain(LONG_PATIENCE_S)
    stream.wait_healed()
    reference = stream.verify(on_disk=stream.tools.get("on_disk"))
    followed = follower.stop()
    followed.assert_never_back()
    held = {name: user.applied_offset for name, user in reference.users.items()}
    assert followed.held == held, "the reader ends with every user's last update"
    refolds = any(spec.refolds for spec in plan.specs) or plan.workers > 1
    accounts.assert_add_up(stream.workers, reference, exactly=not refolds)
    return sum(reference.outcomes.values()), followed


def _keep_logs(stream: Stream, folder: Path) -> None:
    """Leave logs and status files; databases and caches go."""
    for worker in stream.workers:
        worker.destroy()
        status = worker.datadir / "status.json"
        if status.exists():
            shutil.copy(status, worker.datadir.with_suffix(".status.json"))
        _shrink(worker)
    shutil.rmtree(folder / "kafka" / "data", ignore_errors=True)


def _shrink(worker: Worker) -> None:
    shutil.rmtree(worker.datadir, ignore_errors=True)
