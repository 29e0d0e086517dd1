"""Whatever is done to the workers in the middle of a load, the outcome is the same.

Each fault is a function that harms the workers while events keep coming; afterwards
``Stream.verify`` holds the whole outcome against the plain reference: windows in the changelog and
in RocksDB event for event, the last update of every user bit for bit, commits never ahead of
effects and complete after a clean stop.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.load import BASE_MS, Load, event_message
from tests.harness.scene import Scene
from tests.harness.stream import STOP_S

pytestmark = pytest.mark.faults

LOAD = Load(events=20_000, users=200, items=60)


def nothing(scene: Scene) -> None:
    """No fault: what the others are compared with."""


def kill_and_restart(scene: Scene) -> None:
    """kill -9 in the middle, and a new start on the same disk."""
    (worker,) = scene.workers
    worker.kill()
    worker.start().wait_running()


def kill_with_the_disk_wiped(scene: Scene) -> None:
    """kill -9 and nothing left of RocksDB: the changelog has it all."""
    (worker,) = scene.workers
    worker.kill()
    shutil.rmtree(worker.datadir)
    worker.start().wait_running()


def kill_one_of_two(scene: Scene) -> None:
    """kill -9 of one worker, whose partitions the other takes over."""
    victim, survivor = scene.workers
    victim.kill()
    scene.stream.wait_shared([survivor])


def terminate_and_restart(scene: Scene) -> None:
    """SIGTERM in the middle of the load: exit 0 in time, then go on from there."""
    (worker,) = scene.workers
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
    worker.start().wait_running()


def one_two_one(scene: Scene) -> None:
    """A second worker joins under load and leaves again: two rebalances without a fault."""
    (first,) = scene.workers
    second = scene.stream.worker()
    scene.stream.wait_shared([first, second])
    scene.feeder.wait_for(0.7)
    second.ask_to_stop()
    assert second.wait(STOP_S) == 0, second.log_tail()
    scene.stream.wait_shared([first])


def freeze_past_the_session(scene: Scene) -> None:
    """SIGSTOP until the other has taken over, then SIGCONT: it must not write the past."""
    frozen, other = scene.workers
    frozen.freeze()
    scene.stream.wait_shared([other])
    scene.feeder.wait_for(0.9)
    frozen.thaw_and_rejoin()
    scene.stream.wait_shared([frozen, other])
    scene.feeder.finish()
    scene.stream.drain()
    scene.stream.wait_healed()


@dataclass(frozen=True)
class Case:
    """A fault, how many workers it needs, and the pace that leaves time for it."""

    inflict: Callable[[Scene], None]
    workers: int = 1
    over_s: float = 5
    settings: dict[str, object] = field(default_factory=dict)


TIGHT: dict[str, object] = {
    "hot_windows_max": 40,
    "dirty_users_max": 20,
    "record_batches_max": 2,
    "fetch_max_records": 200,
    "micro_batch_max_users": 16,
    "text_cache_rows": 100,
}
"""Every cap far below what the load wants: windows leave memory, texts leave their rows, fetching
waits for checkpoints, and micro-batches need more texts than there are rows."""

CASES = {
    "nothing": Case(nothing, over_s=0.5),
    "tight-caps": Case(nothing, over_s=0.5, settings=TIGHT),
    "kill-and-restart": Case(kill_and_restart),
    "kill-and-wipe": Case(kill_with_the_disk_wiped),
    "kill-one-of-two": Case(kill_one_of_two, workers=2, over_s=8),
    "kill-one-of-two-with-standby": Case(
        kill_one_of_two, workers=2, over_s=8, settings={"standby_replicas": 1}
    ),
    "terminate-and-restart": Case(terminate_and_restart),
    "rebalance-1-2-1": Case(one_two_one, over_s=10),
    "freeze": Case(freeze_past_the_session, workers=2, over_s=12),
    # Much is on its way to the broker when it stops, and nobody writes after the thaw.
    "freeze-at-full-speed": Case(freeze_past_the_session, workers=2, over_s=1.5),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_outcome_is_exact_after(case: Case, make_stream: StreamMaker) -> None:
    """20,000 events, one fault, and nothing lost, doubled, out of place or committed ahead."""
    stream = make_stream(**case.settings)
    stream.publish(LOAD.catalogue())
    workers = stream.start_workers(case.workers)
    stream.watch_commits()
    feeder = stream.feed(LOAD.messages(), case.over_s)
    feeder.wait_for(0.3)
    stream.wait_published()
    case.inflict(Scene(stream, workers, feeder))
    feeder.finish()
    reference = stream.verify()
    assert min(reference.outcomes[kind] for kind in ("folded", "duplicate", "late")) > 100
    assert reference.forgotten


EXPIRING: dict[str, object] = {"window_max_age_ms": 60_000, "window_expiry_ms": 60_000}
"""The load goes by at an event a second, 200 users take turns: of two events of a user every second
lies further than two minutes apart, so begins anew; and whoever is silent for three is swept."""
PUNCTUAL = replace(LOAD, late=0, hopeless=0)
"""Only events later than ``window_expiry_ms`` would see whether a sweep came before them."""


def clock(number: int) -> Message:
    """Return an event of somebody new, ten seconds after the load."""
    time_ms = BASE_MS + PUNCTUAL.events * 1_000 + 10_000
    event = {"event_id": "tick", "user_id": f"clock-{number}", "type": "view", "item_id": "item-1"}
    return event_message(event | {"time_ms": time_ms})


@pytest.mark.parametrize(
    "inflict",
    [kill_and_restart, kill_with_the_disk_wiped],
    ids=lambda one: one.__name__,
)
def test_windows_are_exact_while_silent_users_expire(
    inflict: Callable[[Scene], None], make_stream: StreamMaker
) -> None:
    """Sweeps before, during and after the fault, and not one window is other than without them."""
    stream = make_stream(**EXPIRING)
    stream.publish(PUNCTUAL.catalogue())
    workers = stream.start_workers(1)
    stream.watch_commits()
    feeder = stream.feed(PUNCTUAL.messages(), 5)
    feeder.wait_for(0.3)
    workers[0].wait_counts("expired", 50)
    inflict(Scene(stream, workers, feeder))
    feeder.finish()
    stream.drain()
    stream.send([clock(number) for number in range(32)])  # all is committed now, and time goes on
    stream.drain()
    stream.wait_swept()
    reference = stream.verify(swept=True)
    assert len(reference.expired) > 20
    assert stream.counts()["expired"] > len(reference.expired), "more left, and some came back"
