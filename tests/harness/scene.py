"""What a fault is inflicted on: a load on its way, and the workers that are on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from stream_app.kafka_server import KafkaServer
from tests.harness.background import Feeder
from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.load import Load
from tests.harness.stream import Stream
from tests.harness.worker import Worker


@dataclass(frozen=True)
class Scene:
    """A load on its way, and the workers that are on it."""

    stream: Stream
    workers: list[Worker]
    """Those that run. A fault leaves it true: all in it run, and they share all partitions."""
    feeder: Feeder
    broker: KafkaServer | None = None
    """The plan's own broker, where one of its faults has asked for one."""

    def stir(self, random_: random.Random, events: int = 60) -> None:
        """Send a few events more, of the load's users: some fault needs a worker to be at work."""
        load = Load(events=events, users=40, seed=random_.randrange(10**6), forget=0, leaving=0)
        self.stream.send(load.messages())

    def stir_until(
        self, condition: Callable[[], bool], random_: random.Random, *, what: str
    ) -> None:
        """Wait for a condition that only comes true while events come."""

        def stirred() -> bool:
            if not condition():
                self.stir(random_, events=8)
            return condition()

        eventually(
            stirred,
            within_s=LONG_PATIENCE_S,
            what=lambda: what + "".join(f"\n{worker.log_tail()}" for worker in self.workers),
        )
