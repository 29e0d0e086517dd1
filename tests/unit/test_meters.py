"""Stages and histograms: weights, bounds, and that the stages of an event add up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.event import EventType
from state.window import Outcome
from stream_app.meters import Histogram, Meters, no_outcomes
from stream_app.stages import STAGES, Arrival, RoundTimes, arrivals, stage_seconds

TIMES_S = st.floats(0, 1e6)


def record(offset: int, timestamp_ms: int = 0) -> Any:
    return SimpleNamespace(offset=offset, timestamp=timestamp_ms)


def test_an_observation_counts_by_its_weight_and_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram([1.0, 2.0])
    histogram.observe(1.0, 3)
    histogram.observe(1.5)
    histogram.observe(9.0, 2)
    assert histogram.cumulative() == [3, 4, 6]
    assert histogram.sum == pytest.approx(3 * 1.0 + 1.5 + 2 * 9.0)


@given(st.integers(0, 1000), st.sets(st.integers(0, 1000)))
def test_every_event_of_a_fetch_is_stood_for_once(size: int, without: set[int]) -> None:
    records = [record(offset, offset) for offset in range(size)]
    found = arrivals(records, without, 5.0)
    assert sum(each.events for each in found) == len(set(range(size)) - without)
    assert all(each.drained_s == 5.0 for each in found)


def test_the_record_in_the_middle_stands_for_those_around_it() -> None:
    records = [record(at, timestamp_ms=1000 * at) for at in range(100)]
    assert arrivals(records, (), 200.0) == [Arrival(32.0, 200.0, 64), Arrival(82.0, 200.0, 36)]


def test_stages_follow_each_other() -> None:
    times = RoundTimes(gathered_s=13.0, text_s=0.5, encoded_s=15.0)
    spent = stage_seconds(Arrival(10.0, 11.0, 1), times, acknowledged_s=18.0)
    assert dict(zip(STAGES, spent, strict=True)) == {
        "broker_wait": 1.0,
        "queue": 2.0,
        "text": 0.5,
        "interest": 1.5,
        "publish": 3.0,
        "total": 8.0,
    }


@given(TIMES_S, TIMES_S, TIMES_S, TIMES_S, TIMES_S, TIMES_S)
def test_no_stage_is_negative_whatever_the_clocks_say(
    produced: float, drained: float, gathered: float, text: float, encoded: float, acked: float
) -> None:
    spent = stage_seconds(Arrival(produced, drained, 1), RoundTimes(gathered, text, encoded), acked)
    assert min(spent) >= 0
    assert sum(spent[:-1]) == pytest.approx(spent[-1])


def test_published_events_are_in_every_stage_by_their_number() -> None:
    meters = Meters()
    times = RoundTimes(gathered_s=2.0, text_s=0.0, encoded_s=2.0)
    meters.published([Arrival(0.0, 1.0, 7), Arrival(0.5, 1.0, 3)], times, 2.25)
    assert {meters.stages[stage].cumulative()[-1] for stage in STAGES} == {10}
    assert meters.stages["total"].sum == pytest.approx(7 * 2.25 + 3 * 1.75)


def test_outcomes_add_up_by_type() -> None:
    meters = Meters()
    for _ in range(2):
        outcomes = no_outcomes()
        outcomes[EventType.VIEW][Outcome.LATE] = 2
        outcomes[EventType.FORGET][Outcome.FORGOTTEN] = 1
        assert meters.folded(outcomes) == [0, 0, 0, 2, 1]
    assert meters.outcomes[EventType.VIEW][Outcome.LATE] == 4
    assert meters.outcomes[EventType.FORGET][Outcome.FORGOTTEN] == 2
    assert sum(map(sum, meters.outcomes.values())) == 6
