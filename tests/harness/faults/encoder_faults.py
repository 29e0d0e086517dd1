"""Harm done to the encoder: it raises, hangs, gives NaN, runs out of memory, or is killed."""

from __future__ import annotations

import random
from functools import partial

import psutil

from tests.harness.deadline import eventually
from tests.harness.fault import FaultSpec
from tests.harness.faulty_encoder import HANGS, MEMORY, NAN, RAISES, Harm
from tests.harness.scene import Scene

MODULE = "tests.harness.faulty_encoder"
QUICK: dict[str, object] = {"encode_timeout_s": 3}


def once(scene: Scene, random_: random.Random, kind: str) -> None:
    """One request goes wrong; the second try of the very same goes well."""
    worker = random_.choice(scene.workers)
    harm = Harm(worker.datadir)
    happened, restarts = harm.happened(kind), worker.count("encoder_restarts")
    harm.do(kind)
    scene.stir_until(
        lambda: harm.happened(kind) > happened, random_, what=f"the encoder's request: {kind}"
    )
    if kind == HANGS:
        worker.wait_counts("encoder_restarts", restarts + 1)


def short_of_memory(scene: Scene, random_: random.Random) -> None:
    """For a while only small batches find room: larger ones fail twice and are halved."""
    worker = random_.choice(scene.workers)
    harm = Harm(worker.datadir)
    happened = harm.happened(MEMORY)
    harm.do(MEMORY)

    def failed_twice() -> bool:
        scene.stir(random_)
        return harm.happened(MEMORY) >= happened + 2

    scene.stir_until(failed_twice, random_, what="batches too large for the encoder's memory")
    harm.take_back(MEMORY)


def killed(scene: Scene, random_: random.Random) -> None:
    """kill -9 of the encoder process alone."""
    worker = random_.choice(scene.workers)
    restarts = worker.count("encoder_restarts")
    eventually(
        lambda: worker.encoder_pid() is not None and psutil.pid_exists(worker.encoder_pid() or 0),
        what=f"an encoder process of {worker.name}",
    )
    psutil.Process(worker.encoder_pid() or 0).kill()
    scene.stir_until(
        lambda: worker.count("encoder_restarts") > restarts, random_, what="the encoder to be back"
    )


FAULTS = {
    kind: FaultSpec(
        partial(once, kind=kind),
        told=f"One request of the encoder: {kind}; its second try goes well.",
        settings=QUICK,
        worker_module=MODULE,
        refolds=False,
    )
    for kind in (RAISES, HANGS, NAN)
} | {
    "short-of-memory": FaultSpec(
        short_of_memory, settings=QUICK, worker_module=MODULE, refolds=False
    ),
    "killed": FaultSpec(killed, refolds=False),
}
