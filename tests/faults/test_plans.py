"""A short selection of plans: every stage of an event's way once, and some of the world around.

``make chaos`` plays random ones. These are side by side, for most of their time is waiting for
sessions to end; each test waits for its own plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.harness.faults.worker_faults import FAULTS
from tests.harness.inflicting import Outcome, play
from tests.harness.plan import Plan, draw, with_faults
from tests.harness.trapped_worker import STAGES

pytestmark = pytest.mark.faults

_JOBS = 3
_SELECTION: dict[str, Plan] = {
    plan.faults[0] + f"-{plan.seed}": plan
    for plan in (
        with_faults(1, ("worker.kill-at-fold", "worker.kill-at-store", "worker.kill")),
        with_faults(2, ("worker.kill-at-changelog-sent", "worker.kill-at-commit")),
        with_faults(3, ("worker.kill-at-changelog", "worker.kill-at-committed")),
        with_faults(4, ("worker.kill-at-publish", "worker.kill-at-ack")),
        with_faults(5, ("worker.kill-at-recovery", "worker.kill-at-assigned")),
        with_faults(6, ("worker.kill-at-revoked", "worker.terminate")),
        with_faults(7, ("worker.terminate-in-rebalance", "worker.one-three-one")),
        with_faults(8, ("worker.kill-one-for-good",), standby_replicas=1),
        with_faults(9, ("worker.freeze", "worker.kill-all")),
        with_faults(10, ("zombie.before-changelog",)),
        with_faults(11, ("zombie.before-update",)),
        with_faults(12, ("network.produce-vanishes",)),
        with_faults(13, ("network.slow",)),
        with_faults(14, ("encoder.short-of-memory",)),
    )
}


@pytest.fixture(scope="module")
def outcomes(
    broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """Begin with all plans; each one's outcome comes when it comes."""
    folder = tmp_path_factory.mktemp("plans")
    with ThreadPoolExecutor(_JOBS) as pool:
        yield {
            name: pool.submit(play, plan, broker, folder / name)
            for name, plan in _SELECTION.items()
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", _SELECTION)
def test_every_promise_holds_after(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    assert outcome.passed, f"{outcome.plan}\n{outcome.error}"
    assert outcome.events >= outcome.plan.load.events
    if outcome.plan.faults == ("zombie.before-changelog",):
        wrote_behind = outcome.stale_written or outcome.intrusions
        assert wrote_behind, "it wrote behind its successor, or nothing was proved"


def test_the_selection_leaves_no_fault_of_workers_out() -> None:
    played = {fault for plan in _SELECTION.values() for fault in plan.faults}
    assert {f"worker.kill-at-{stage}" for stage in STAGES} <= played
    assert {f"worker.{name}" for name in FAULTS} - played == {"worker.nothing"}


def test_a_seed_says_everything() -> None:
    assert draw(17) == draw(17)
    assert draw(17) != replace(draw(17), seed=18)
    assert len({draw(seed).faults for seed in range(40)}) > 20
