"""A worker frozen until its partitions have another owner, and then thawed: what it writes is old.

It must not outlive what the new owner has written: not in changelog or updates as they lie there,
not after compaction has kept the last record of each key only, and not on the empty disk of a
third owner who restores from that.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.harness import checks, compaction
from tests.harness.fault import FaultSpec
from tests.harness.scene import Scene
from tests.harness.stream import STOP_S
from tests.harness.worker import TRAPPED, Worker


def anywhere(scene: Scene, random_: random.Random) -> None:
    """SIGSTOP wherever it is just then."""
    frozen = random_.choice(scene.workers)
    frozen.freeze()
    _outlived(scene, frozen, random_)


def before_changelog(scene: Scene, random_: random.Random) -> None:
    """SIGSTOP when the lease was looked at and windows are about to be sent: they will be."""
    _trapped("before-changelog", scene, random_)


def before_update(scene: Scene, random_: random.Random) -> None:
    """SIGSTOP when the lease was looked at and updates are about to be sent: they will be."""
    _trapped("before-update", scene, random_)


def _trapped(stage: str, scene: Scene, random_: random.Random) -> None:
    frozen = random_.choice(scene.workers)
    trap = f"STOP {stage} {random_.randint(1, 8)}"
    frozen.arm(trap)
    scene.stir_until(frozen.is_frozen, random_, what=f"{frozen.name} frozen by {trap}")
    _outlived(scene, frozen, random_)


def _outlived(scene: Scene, frozen: Worker, random_: random.Random) -> None:
    stream, workers = scene.stream, scene.workers
    others = [worker for worker in workers if worker is not frozen]
    stream.wait_shared(others)
    scene.stir(random_, events=200)
    quiet = random_.random() < 0.5
    if quiet:  # nobody writes after the thaw: what is stale could stay the last word
        scene.feeder.finish()
        stream.drain()
    frozen.thaw_and_rejoin()
    stream.wait_shared(workers)
    scene.feeder.finish()
    stream.drain()
    stream.wait_healed()
    stream.tools["stale_windows"] = checks.stale(stream.changelog())
    stream.tools["stale_written"] = stream.tools["stale_windows"] + checks.stale(stream.updates())
    stream.verify_commits()
    stream.tools["compacted"] = compaction.force(stream)
    assert stream.tools["compacted"] > 0
    _third_owner(scene)


def _third_owner(scene: Scene) -> None:
    """All others leave, and one comes whose disk is empty."""
    for worker in scene.workers:
        worker.ask_to_stop()
    for worker in scene.workers:
        assert worker.wait(STOP_S + 5) == 0, worker.log_tail()
    third = scene.stream.worker()
    scene.workers[:] = [third]
    scene.stream.wait_shared([third])
    scene.stream.tools["on_disk"] = [third]


def _spec(fault: Callable[[Scene, random.Random], None]) -> FaultSpec:
    return FaultSpec(
        fault,
        workers=2,
        over_s=9,
        worker_module=TRAPPED,
        combines=False,
    )


FAULTS = {
    "anywhere": _spec(anywhere),
    "before-changelog": _spec(before_changelog),
    "before-update": _spec(before_update),
}
