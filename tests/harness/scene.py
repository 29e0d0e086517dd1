"""What a fault is inflicted on: a load on its way, and the workers that are on it."""

from __future__ import annotations

from dataclasses import dataclass

from stream_app.kafka_server import KafkaServer
from tests.harness.background import Feeder
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
