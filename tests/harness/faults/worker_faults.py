"""Harm done to workers: ended, killed, frozen, joined by others and left alone."""

from __future__ import annotations

import random
import shutil
import signal
from functools import partial

from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.fault import Fault, FaultSpec
from tests.harness.scene import Scene
from tests.harness.stream import STOP_S
from tests.harness.trapped_worker import STAGES
from tests.harness.worker import TRAPPED, Worker

_PASSINGS = {"recovery": 3, "revoked": 1, "assigned": 1}
"""At most so many passings before a trap springs; other stages are passed all the time."""
_OFTEN = 12


def nothing(scene: Scene, random_: random.Random) -> None:
    """No fault: what the others are compared with."""


def kill(scene: Scene, random_: random.Random) -> None:
    """kill -9 in the middle, and a new start on the same disk."""
    worker = random_.choice(scene.workers)
    worker.kill()
    _start_again(scene, worker)


def kill_all(scene: Scene, random_: random.Random) -> None:
    """kill -9 of every worker at once, as when a machine loses power; all start again."""
    for worker in scene.workers:
        worker.kill()
    for worker in scene.workers:
        worker.start()
    scene.stream.wait_shared(scene.workers)


def kill_one_for_good(scene: Scene, random_: random.Random) -> None:
    """kill -9 of one worker, whose partitions the others take over."""
    victim = random_.choice(scene.workers)
    victim.kill()
    scene.workers.remove(victim)
    scene.stream.wait_shared(scene.workers)


def terminate(scene: Scene, random_: random.Random) -> None:
    """SIGTERM in the middle of the load: exit 0 in time, then a new start on the same disk."""
    worker = random_.choice(scene.workers)
    _end(worker)
    _start_again(scene, worker)


def terminate_in_rebalance(scene: Scene, random_: random.Random) -> None:
    """SIGTERM to a worker that is about to rejoin the group, because another one has come."""
    leaving = random_.choice(scene.workers)
    scene.workers.remove(leaving)
    before = leaving.rebalances()
    scene.workers.append(scene.stream.worker())
    eventually(
        lambda: leaving.rebalances() > before,
        within_s=LONG_PATIENCE_S,
        what=lambda: f"{leaving.name} told of a rebalance\n{leaving.log_tail()}",
    )
    _end(leaving)
    scene.stream.wait_shared(scene.workers)


def one_three_one(scene: Scene, random_: random.Random) -> None:
    """Two workers join one after the other, and leave in any order, the first one perhaps too."""
    stream, workers = scene.stream, scene.workers
    for _ in range(2):
        workers.append(stream.worker())
        stream.wait_shared(workers)
    while len(workers) > 1:
        leaving = random_.choice(workers)
        workers.remove(leaving)
        if random_.random() < 0.3:
            leaving.kill()
        else:
            _end(leaving)
        stream.wait_shared(workers)


def freeze(scene: Scene, random_: random.Random) -> None:
    """SIGSTOP past the session timeout, until others have taken over, then SIGCONT."""
    frozen = random_.choice(scene.workers)
    frozen.freeze()
    _thaw_late(scene, frozen, random_)


def kill_at(stage: str, scene: Scene, random_: random.Random) -> None:
    """The worker kills itself at a stage of an event's way, at a passing drawn by lot."""
    worker = random_.choice(scene.workers)
    trap = f"KILL {stage} {random_.randint(1, _PASSINGS.get(stage, _OFTEN))}"
    if stage in {"recovery", "assigned"}:
        _kill_while_starting(scene, worker, trap, wiped=stage == "recovery")
    elif stage == "revoked":
        worker.arm(trap)
        scene.workers.append(scene.stream.worker())
    else:
        worker.arm(trap)
    scene.stir_until(lambda: not worker.alive, random_, what=f"{worker.name} killed by {trap}")
    worker.died_by(signal.SIGKILL)
    _start_again(scene, worker)


def _kill_while_starting(scene: Scene, worker: Worker, trap: str, *, wiped: bool) -> None:
    """A second death, while the first one's partitions are being restored."""
    scene.stir(random.Random(trap), events=200)  # so that there is something to restore
    scene.stream.wait_published()
    worker.kill()
    if wiped:
        shutil.rmtree(worker.datadir)
    worker.arm(trap)
    worker.start()


def _thaw_late(scene: Scene, frozen: Worker, random_: random.Random) -> None:
    others = [worker for worker in scene.workers if worker is not frozen]
    scene.stream.wait_shared(others)
    if random_.random() < 0.5:
        scene.stir(random_)
    frozen.thaw_and_rejoin()
    scene.stream.wait_shared(scene.workers)
    scene.stream.wait_healed()


def _start_again(scene: Scene, worker: Worker) -> None:
    worker.start()
    scene.stream.wait_shared(scene.workers)


def _end(worker: Worker) -> None:
    worker.ask_to_stop()
    assert worker.wait(STOP_S + 5) == 0, worker.log_tail()


def _at(stage: str) -> Fault:
    fault = partial(kill_at, stage)
    fault.__doc__ = f"kill -9: {STAGES[stage]}."
    return fault


FAULTS = {
    "nothing": FaultSpec(nothing, refolds=False),
    "kill": FaultSpec(kill),
    "kill-all": FaultSpec(kill_all),
    "kill-one-for-good": FaultSpec(kill_one_for_good, workers=2, over_s=10),
    "terminate": FaultSpec(terminate),
    "terminate-in-rebalance": FaultSpec(terminate_in_rebalance, joining=1),
    "one-three-one": FaultSpec(one_three_one, joining=2, over_s=15),
    "freeze": FaultSpec(freeze, workers=2, over_s=12),
    **{
        f"kill-at-{stage}": FaultSpec(
            _at(stage), joining=int(stage == "revoked"), worker_module=TRAPPED
        )
        for stage in STAGES
    },
}
