"""A load without faults: every count, and the order of what is published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import checks
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

LOAD = Load(events=20_000, users=200, items=60, seed=11)


def test_every_event_has_one_outcome_and_the_counts_add_up(
    stream: Stream, record_property: Callable[[str, object], None]
) -> None:
    """What the worker counts is what the reference counts, kind by kind."""
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages())
    (worker,) = stream.start_workers(1)
    stream.drain()
    outcomes = stream.verify().outcomes
    status = worker.status()
    counts = status["counts"]
    assert {kind: counts[kind] for kind in outcomes} == dict(outcomes)
    assert counts["records"] == sum(outcomes.values()) == len(LOAD.messages())
    assert counts["redelivered"] == counts["dead_letters"] == 0
    assert counts["unknown_items"] > 0
    assert status["dirty"] == 0
    assert status["backlog"] == 0
    assert status["items_known"] == LOAD.items
    updates = stream.updates()
    published = sum(record.value is not None for record in updates)
    assert counts["updates_published"] == published
    assert counts["tombstones"] == len(updates) - published > 0
    checks.assert_published_in_order(updates)
    assert 0 <= status["loop_lag_ms_p99"] <= status["loop_lag_ms_max"]
    record_property("loop_lag_ms_p99", status["loop_lag_ms_p99"])
