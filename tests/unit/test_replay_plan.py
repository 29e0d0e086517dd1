"""What a replay is asked for, what it plans, and which records that is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stream_app.errors import FixSettings
from stream_app.replaying.bounds import Bounds
from stream_app.replaying.plan import Plan, Reach, Request, check_same, fold_settings
from stream_app.replaying.positions import AtOffsets, AtTime, duration_ms, position
from stream_app.settings import Settings

SETTINGS = Settings()
PLAN = Plan(
    revision=1,
    name="june",
    topic="interest.events",
    request=Request(start="earliest", end="latest", users=("a", "b"), model="/here/bundle"),
    partitions={0: Reach(5, 20, 105), 1: Reach(0, 0, 50), 2: Reach(0, 0, 0)},
    fold_settings=fold_settings(SETTINGS),
    notes=("partition 0: short",),
    made_ms=1,
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("1793491200000", AtTime(1_793_491_200_000)),
        ("2026-11-01", AtTime(1_793_491_200_000)),
        ("2026-11-01T02:00:00+02:00", AtTime(1_793_491_200_000)),
        ("0:123,1:456", AtOffsets({0: 123, 1: 456})),
    ],
)
def test_a_point_of_the_log_is_understood(said: str, meant: object) -> None:
    assert position(said) == meant


@pytest.mark.parametrize("said", ["", "yesterday", "0:1,", "0:1,0:2", "-5", "2026-13-01"])
def test_what_is_no_point_of_the_log_is_refused(said: str) -> None:
    with pytest.raises(FixSettings):
        position(said)


def test_a_warm_up_is_a_duration_or_what_a_window_reaches() -> None:
    assert duration_ms("90m", 7) == 5_400_000
    assert duration_ms("window", 7) == 7
    for said in ("30", "d", "1w", "-1d"):
        with pytest.raises(FixSettings, match="30d"):
            duration_ms(said, 7)


def test_a_plan_survives_its_bytes() -> None:
    assert msgspec.json.decode(msgspec.json.encode(PLAN), type=Plan) == PLAN


def test_progress_counts_between_first_and_end_only() -> None:
    assert PLAN.total == 150
    assert PLAN.done({}) == 0
    assert PLAN.done({0: 3, 1: 0}) == 0
    assert PLAN.done({0: 15, 1: 80}) == 10 + 50
    assert PLAN.done({0: 105, 1: 50}) == PLAN.total


def test_what_is_not_said_is_as_planned_and_the_model_is_told_by_its_content() -> None:
    check_same(PLAN, Request(), SETTINGS)
    check_same(PLAN, Request(start="earliest", users=("a", "b"), model="/there"), SETTINGS)


def test_every_difference_is_named() -> None:
    other = SETTINGS.model_copy(update={"window_max_events": 5, "checkpoint_interval_ms": 50})
    with pytest.raises(FixSettings) as refused:
        check_same(PLAN, Request(start="0:1", users=("a",), warm_up="1d"), other)
    said = str(refused.value)
    assert "--from is 0:1, was earliest" in said
    assert "--users is 1 users, was 2 users" in said
    assert "--warm-up is 1d, was not given" in said
    assert "setting window_max_events is 5, was 50" in said
    assert "checkpoint" not in said
    assert "--to" not in said


def record(offset: int, key: bytes = b"a") -> Any:
    return SimpleNamespace(offset=offset, key=key)


def test_bounds_are_of_the_partitions_that_have_them() -> None:
    assert PLAN.bounds() == Bounds({0: 105, 1: 50, 2: 0}, {0: 20}, frozenset({b"a", b"b"}))


def test_warm_up_ends_at_its_offset() -> None:
    bounds = PLAN.bounds()
    records = [record(18), record(19), record(20), record(25)]
    warm, rest = bounds.warm_up(0, records)
    assert [each.offset for each in warm] == [18, 19]
    assert [each.offset for each in rest] == [20, 25]
    assert bounds.warm_up(0, records[2:]) == ((), records[2:])
    assert bounds.warm_up(1, records) == ((), records)
    assert bounds.is_warm_up(0, 19)
    assert not bounds.is_warm_up(0, 20)


def test_other_users_records_are_left_out() -> None:
    records = [record(1), record(2, b"c"), record(3, b"b")]
    assert [each.offset for each in PLAN.bounds().of_users(records)] == [1, 3]
    assert Bounds({}, {}, None).of_users(records) == records
