"""A plan: a load, settings and faults, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.harness.fault import FaultSpec
from tests.harness.faults import registered
from tests.harness.load import Load
from tests.harness.worker import TRAPPED

TIGHT: dict[str, object] = {
    "hot_windows_max": 40,
    "dirty_users_max": 20,
    "record_batches_max": 2,
    "fetch_max_records": 200,
    "micro_batch_max_users": 16,
    "text_cache_rows": 100,
}
"""Every cap far below what a load wants: windows leave memory, texts leave their rows, fetching
waits for checkpoints, and micro-batches need more texts than there are rows."""

_FAULTS_MOST = 3
_WORKERS_MOST = 4
_PLAIN = "worker.nothing"


@dataclass(frozen=True)
class Plan:
    """What is played, on what, and what is done to it meanwhile."""

    seed: int
    faults: tuple[str, ...]
    load: Load
    workers: int
    over_s: float
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def specs(self) -> list[FaultSpec]:
        """Return the faults' specifications, in their order."""
        known = registered()
        return [known[name] for name in self.faults]

    @property
    def worker_module(self) -> str:
        """Return the module that workers are started by."""
        modules = {spec.worker_module for spec in self.specs} - {"stream_app"}
        return modules.pop() if modules else TRAPPED

    def __str__(self) -> str:
        return f"seed {self.seed} {'+'.join(self.faults)}"


def draw(seed: int, kind: str = "") -> Plan:
    """Return the plan of a seed; the same arguments give the same plan.

    ``kind`` is the beginning of faults' full names (``worker``, ``worker.kill-at``); the first
    fault is one of these, others that may follow it are drawn from all.

    Raises:
        ValueError: there is no such kind of fault.
    """
    random_ = random.Random(f"plan {seed} {kind}")
    known = registered()
    of_kind = [name for name in known if name.startswith(kind)]
    if not of_kind:
        raise ValueError(f"no fault begins with {kind!r}; there are {', '.join(known)}")
    faults = _draw_faults(random_, known, of_kind)
    return with_faults(seed, faults, random_)


def with_faults(
    seed: int, faults: tuple[str, ...], random_: random.Random | None = None, **settings: object
) -> Plan:
    """Return a plan of these faults and settings; the rest is drawn."""
    random_ = random_ or random.Random(f"plan {seed} {faults}")
    known = registered()
    specs = [known[name] for name in faults]
    most = max(1, _WORKERS_MOST - sum(spec.joining for spec in specs))
    drawn = min(most, random_.choice((1, 1, 2, 2, 3)))
    workers = max([drawn, *(spec.workers for spec in specs)])
    return Plan(
        seed,
        faults,
        _draw_load(random_, seed, specs),
        workers,
        round(sum(spec.over_s for spec in specs) * random_.uniform(0.7, 1.3), 1),
        _draw_settings(random_, workers, specs)
        | {name: value for spec in specs for name, value in spec.settings.items()}
        | settings,
    )


def _draw_faults(
    random_: random.Random, known: Mapping[str, FaultSpec], of_kind: list[str]
) -> tuple[str, ...]:
    drawn = [random_.choice(of_kind)]
    while len(drawn) < _FAULTS_MOST and random_.random() < 0.4:
        fitting = [name for name in known if _fits(name, drawn, known)]
        if not fitting:
            break
        drawn.append(random_.choice(fitting))
    return tuple(drawn)


def _fits(name: str, drawn: list[str], known: Mapping[str, FaultSpec]) -> bool:
    """Whether a fault may come into a plan: it shares broker, worker module and set-up."""
    together = [known[each] for each in (*drawn, name)]
    modules = {spec.worker_module for spec in together} - {"stream_app"}
    brokers = {spec.own_broker for spec in together if spec.own_broker is not None}
    prepared = [spec for spec in together if spec.prepare is not None]
    named: dict[str, object] = {}
    for spec in together:
        for key, value in spec.settings.items():
            if named.setdefault(key, value) != value:
                return False
    return (
        name != _PLAIN
        and all(spec.combines for spec in together)
        and len(modules) <= 1
        and len(brokers) <= 1
        and len(prepared) <= 1
        and not _lacks_workers(name, drawn)
        and max(s.workers for s in together) + sum(s.joining for s in together) <= _WORKERS_MOST
    )


def _lacks_workers(name: str, drawn: list[str]) -> bool:
    """Whether an earlier fault leaves fewer workers than this one needs: one worker for good."""
    leaving = {"worker.kill-one-for-good", "worker.one-three-one"}
    return bool(leaving & set(drawn))


def _draw_load(random_: random.Random, seed: int, specs: list[FaultSpec]) -> Load:
    drawn: dict[str, Any] = {
        "events": random_.choice((2_000, 5_000, 10_000)),
        "users": random_.choice((20, 80, 300)),
        "items": random_.choice((20, 60)),
        "seed": seed,
        "doubled": random_.choice((0.0, 0.03, 0.2)),
        "late": random_.choice((0.0, 0.05, 0.3)),
        "hopeless": random_.choice((0.0, 0.01)),
        "forget": random_.choice((0.0, 0.003, 0.03)),
        "unknown": random_.choice((0.0, 0.02, 0.5)),
        "poison": random_.choice((0.0, 0.0, 0.01, 0.1)),
    }
    for spec in specs:
        drawn |= spec.load
    return Load(**drawn)


def _draw_settings(
    random_: random.Random, workers: int, specs: list[FaultSpec]
) -> dict[str, object]:
    # Faust gives each worker up to ceil(partitions / workers), so that the last of three may get
    # none of 4, and the last of five none of 7; of 6 and 12 up to four workers all get some.
    alone = workers == 1 and not any(spec.joining for spec in specs)
    drawn: dict[str, object] = {
        "partitions": random_.choice((1, 4) if alone else (6, 12)),
        "checkpoint_interval_ms": random_.choice((50, 200, 1_000)),
        "micro_batch_linger_ms": random_.choice((0, 0, 2, 20)),
        "window_max_events": random_.choice((3, 10, 50)),
    }
    if random_.random() < 0.25:
        drawn |= TIGHT
    if not alone and random_.random() < 0.4:
        drawn["standby_replicas"] = 1
    return drawn
