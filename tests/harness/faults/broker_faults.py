"""Harm done to the broker: stopped, killed, paused, its log's disk full."""

from __future__ import annotations

import os
import random
import signal
import time

from stream_app.kafka_server import KafkaServer
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.deadline import eventually
from tests.harness.fault import FaultSpec
from tests.harness.kafkas import SmallLogKafka
from tests.harness.scene import Scene
from tests.harness.small_disk import why_not

QUICK: dict[str, object] = {"delivery_timeout_s": 5}


def stopped(scene: Scene, random_: random.Random) -> None:
    """SIGTERM, and a new start."""
    broker = own(scene)
    broker.stop()
    _start_again(scene, broker, random_)


def killed(scene: Scene, random_: random.Random) -> None:
    """kill -9, and a new start on the same log."""
    broker = own(scene)
    broker.kill()
    _start_again(scene, broker, random_)


def paused(scene: Scene, random_: random.Random) -> None:
    """SIGSTOP: connections stay and nobody answers, perhaps until all sessions are over."""
    pid = own(scene).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(random_.uniform(0.5, SESSION_TIMEOUT_S + 4))  # the fault itself, not a wait
    finally:
        os.kill(pid, signal.SIGCONT)
    scene.stream.wait_shared(scene.workers)


def log_disk_full(scene: Scene, random_: random.Random) -> None:
    """No byte is left for the log: the broker ends, and is started again when there is room."""
    broker = own(scene)
    assert isinstance(broker, SmallLogKafka)
    broker.disk.fill()
    eventually(lambda: broker.pid is None, what="the broker ending on its full disk")
    broker.disk.release()
    _start_again(scene, broker, random_)


def own(scene: Scene) -> KafkaServer:
    """Return the plan's own broker."""
    assert scene.broker is not None, "this fault needs a broker of the plan's own"
    return scene.broker


def _start_again(scene: Scene, broker: KafkaServer, random_: random.Random) -> None:
    time.sleep(random_.uniform(0, SESSION_TIMEOUT_S + 2))  # how long it is away: part of the fault
    broker.kill()  # what is left of it
    broker.start()
    scene.stream.wait_shared(scene.workers)


FAULTS = {
    "stopped": FaultSpec(stopped, settings=QUICK, over_s=12, own_broker=KafkaServer),
    "killed": FaultSpec(killed, settings=QUICK, over_s=12, own_broker=KafkaServer),
    "paused": FaultSpec(paused, settings=QUICK, over_s=12, own_broker=KafkaServer),
}
if not why_not():
    FAULTS["log-disk-full"] = FaultSpec(
        log_disk_full, settings=QUICK, over_s=15, own_broker=SmallLogKafka
    )
