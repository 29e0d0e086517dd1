"""What a fault is: a function that does harm, and what has to be there for it.

A fault is called in the middle of a load and returns when its harm is done and the workers of the
scene run again and share all partitions, so that the next fault finds a scene like the one it
found. It checks nothing of the outcome: that is the plan's affair, the same for every fault. What
it draws, it draws from the ``random.Random`` it is given, so that a seed says everything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stream_app.kafka_server import KafkaServer
from tests.harness.scene import Scene
from tests.harness.stream import Stream

Fault = Callable[[Scene, random.Random], None]


@dataclass(frozen=True)
class FaultSpec:
    """A fault, and what it needs."""

    inflict: Fault
    workers: int = 1
    """How many there must be at the least; a plan of several faults takes the largest."""
    joining: int = 0
    """How many come on top of these for a while, or for good."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the workers, over those of ``tests.harness.stream.SMALL_AND_QUICK``."""
    over_s: float = 6.0
    """How long events keep coming, at the least: about as long as the fault takes."""
    own_broker: Callable[..., KafkaServer] | None = None
    """``KafkaServer``, or what is made like one with a folder, for a broker of the plan's own."""
    prepare: Callable[[Stream, KafkaServer | None], None] | None = None
    """Called when the topics exist, before a worker starts. May change ``stream.raw_settings``
    (which workers get), put tools for the fault into ``stream.tools`` and whatever has to be closed
    at the end onto ``stream.closing``."""
    worker_module: str = "stream_app"
    """Workers are started as ``python -m <this> worker``."""
    refolds: bool = True
    """Whether events may be folded twice, or by a worker whose last words are lost: its counts then
    need not be the reference's."""
    told: str = ""
    """What is done, where the function's docstring does not say it."""
    combines: bool = True
    """Whether other faults may come before or after it in a plan."""
    load: Mapping[str, object] = field(default_factory=dict)
    """Of ``tests.harness.load.Load``, over what the plan has drawn."""

    @property
    def meaning(self) -> str:
        """Return what is done, in a line."""
        return self.told or (self.inflict.__doc__ or "").strip().partition("\n")[0]
