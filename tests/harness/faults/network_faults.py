"""Harm done to the network between workers and broker, by a proxy of the test's own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from stream_app.kafka_server import KafkaServer
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.fault import Fault, FaultSpec
from tests.harness.kafkas import ProxiedKafka
from tests.harness.proxy import FAIR, Weather
from tests.harness.scene import Scene
from tests.harness.stream import Stream

Draw = Callable[[random.Random], Weather]

QUICK: dict[str, object] = {"delivery_timeout_s": 5}


def proxy_of(broker: KafkaServer | None) -> ProxiedKafka:
    """Return the plan's broker as what it is."""
    assert isinstance(broker, ProxiedKafka), "this fault needs a broker behind a proxy"
    return broker


def through_the_proxy(stream: Stream, broker: KafkaServer | None) -> None:
    """Let the workers, and nobody else, reach the broker through its proxy."""
    stream.raw_settings["bootstrap_servers"] = proxy_of(broker).proxy.bootstrap


def spell(draw: Draw, shortest_s: float, longest_s: float) -> Fault:
    """Return a fault: a spell of bad weather, then fair weather again."""

    def inflict(scene: Scene, random_: random.Random) -> None:
        proxy = proxy_of(scene.broker).proxy
        proxy.change(draw(random_))
        try:
            time.sleep(random_.uniform(shortest_s, longest_s))  # the fault itself, not a wait
        finally:
            proxy.change(FAIR)
        scene.stream.wait_shared(scene.workers)

    return inflict


def cut(random_: random.Random) -> Weather:
    """Connections are reset, and new ones refused."""
    return Weather(cut=True)


def half_open(random_: random.Random) -> Weather:
    """Connections stay, bytes vanish."""
    return Weather(vanishing=True)


def slow(random_: random.Random) -> Weather:
    """Everything takes long, and little comes through at a time."""
    return Weather(
        latency_s=random_.uniform(0.01, 0.15), bytes_per_s=random_.choice((2e5, 1e6, 1e7))
    )


def produce_vanishes(random_: random.Random) -> Weather:
    """The worker reads and heartbeats as ever, and what it writes does not arrive."""
    return Weather(produce_vanishes=True)


def produce_slow(random_: random.Random) -> Weather:
    """The worker reads and heartbeats as ever, and what it writes arrives late."""
    return Weather(produce_latency_s=random_.uniform(0.2, 2.0))


def orphaned(scene: Scene, random_: random.Random) -> None:
    """Every connection there is is dead, and nobody is told; new ones are fine."""
    proxy_of(scene.broker).proxy.orphan()
    scene.stir_until(
        lambda: all(worker.said("no heartbeat confirmed") for worker in scene.workers),
        random_,
        what="the workers noticing that nothing comes through",
    )
    scene.stream.wait_shared(scene.workers)


PAST_SESSION_S = SESSION_TIMEOUT_S + 4


def _spec(draw: Draw, shortest_s: float, longest_s: float) -> FaultSpec:
    return FaultSpec(
        spell(draw, shortest_s, longest_s),
        told=draw.__doc__ or "",
        settings=QUICK,
        over_s=longest_s + 4,
        own_broker=ProxiedKafka,
        prepare=through_the_proxy,
    )


FAULTS = {
    "cut": _spec(cut, 0.1, PAST_SESSION_S),
    "half-open": _spec(half_open, 1, PAST_SESSION_S),
    "slow": _spec(slow, 4, 12),
    "produce-vanishes": _spec(produce_vanishes, 1, 12),
    "produce-slow": _spec(produce_slow, 4, 12),
    "orphaned": FaultSpec(
        orphaned,
        settings=QUICK,
        over_s=30,
        combines=False,  # it takes two minutes
        own_broker=ProxiedKafka,
        prepare=through_the_proxy,
    ),
}
