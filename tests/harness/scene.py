"""What a fault is inflicted on: a load on its way, and the workers that are on it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.background import Feeder
from tests.harness.stream import Stream
from tests.harness.worker import Worker


@dataclass(frozen=True)
class Scene:
    """A load on its way, and the workers that are on it."""

    stream: Stream
    workers: list[Worker]
    feeder: Feeder
