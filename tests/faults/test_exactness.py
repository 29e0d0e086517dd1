"""At full speed, with nothing drawn by lot: the outcome is exact.

What is done to workers at leisure is in ``test_plans.py``. ``Stream.verify`` holds the outcome
against the plain reference: windows in the changelog and in RocksDB event for event, the last
update of every user bit for bit, commits never ahead of effects and complete after a clean stop.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from tests.conftest import StreamMaker
from tests.harness.fault import Fault
from tests.harness.faults import worker_faults
from tests.harness.load import Load
from tests.harness.plan import TIGHT
from tests.harness.scene import Scene

pytestmark = pytest.mark.faults

LOAD = Load(events=20_000, users=200, items=60)


@dataclass(frozen=True)
class Case:
    """A fault, how many workers it needs, and the pace that leaves time for it."""

    inflict: Fault
    workers: int = 1
    over_s: float = 0.5
    settings: dict[str, object] = field(default_factory=dict)


CASES = {
    "nothing": Case(worker_faults.nothing),
    "tight-caps": Case(worker_faults.nothing, settings=TIGHT),
    # Much is on its way to the broker when it stops, and nobody writes after the thaw.
    "freeze-at-full-speed": Case(worker_faults.freeze, workers=2, over_s=1.5),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_outcome_is_exact_after(case: Case, make_stream: StreamMaker) -> None:
    """20,000 events, one fault, and nothing lost, doubled, out of place or committed ahead."""
    stream = make_stream(**case.settings)
    stream.publish(LOAD.catalogue())
    workers = stream.start_workers(case.workers)
    stream.watch_commits()
    feeder = stream.feed(LOAD.messages(), case.over_s)
    feeder.wait_for(0.3)
    stream.wait_published()
    case.inflict(Scene(stream, workers, feeder), random.Random(7))
    feeder.finish()
    reference = stream.verify()
    assert min(reference.outcomes[kind] for kind in ("folded", "duplicate", "late")) > 100
    assert reference.forgotten
