"""Harm done to workers: ended, killed, frozen, joined by others and left alone."""

from __future__ import annotations

import random

from tests.harness.fault import FaultSpec
from tests.harness.scene import Scene
from tests.harness.stream import STOP_S


def nothing(scene: Scene, random_: random.Random) -> None:
    """No fault: what the others are compared with."""


def kill(scene: Scene, random_: random.Random) -> None:
    """kill -9 in the middle, and a new start on the same disk."""
    worker = random_.choice(scene.workers)
    worker.kill()
    worker.start().wait_running()
    scene.stream.wait_shared(scene.workers)


def terminate(scene: Scene, random_: random.Random) -> None:
    """SIGTERM in the middle of the load: exit 0 in time, then a new start on the same disk."""
    worker = random_.choice(scene.workers)
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
    worker.start().wait_running()
    scene.stream.wait_shared(scene.workers)


FAULTS = {
    "nothing": FaultSpec(nothing),
    "kill": FaultSpec(kill),
    "terminate": FaultSpec(terminate),
}
