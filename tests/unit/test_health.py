"""Health and readiness: each reason by itself, and that being behind is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from state.table import PartitionTable
from stream_app.lag import Lag
from stream_app.partition import Partition, Taken
from stream_app.serving.health import Condition, Limits, unhealthy, unready

LIMITS = Limits(encoder_silent_s=30, commit_s=60)
WELL = Condition("running", 0.0, False, {}, None, {0: 59.0, 1: 0.0}, {0: 10_000, 1: 0})


def test_a_worker_that_lags_and_catches_up_is_alive_and_ready() -> None:
    assert unhealthy(WELL, LIMITS) == []
    assert unready(WELL, LIMITS) == []


@pytest.mark.parametrize(
    ("wrong", "healthy", "said"),
    [
        ({"encoder_silent_s": 30.1}, False, "encoder has not answered for 30.1 s"),
        ({"state": "failed"}, False, "has failed"),
        ({"state": "starting"}, True, "is starting"),
        ({"state": "rebalancing"}, True, "is rebalancing"),
        ({"state": "stopping"}, True, "is stopping"),
        (
            {"recovering": True, "recovery_remaining": {0: 5, 3: 7}},
            True,
            "being restored: 12 changelog records",
        ),
        ({"lease_lost_s": 11.0}, True, "no heartbeat confirmed for 11.0 s"),
        (
            {"still_s": {0: 61.0, 1: 0.0}},
            True,
            "partition 0 has committed nothing for 61 s .* lags by 10000 records",
        ),
    ],
)
def test_each_reason_alone_turns_readiness_red(
    wrong: dict[str, Any], healthy: bool, said: str
) -> None:
    condition = WELL._replace(**wrong)
    assert (unhealthy(condition, LIMITS) == []) == healthy
    reasons = unready(condition, LIMITS)
    assert len(reasons) == 1
    with pytest.raises(ValueError, match=said):
        raise ValueError(reasons[0])


class World:
    """A partition, and what the broker has of it."""

    def __init__(self) -> None:
        self.partition = Partition(0, cast(PartitionTable, None))
        self.committed: dict[int, int] = {}
        self.lag = Lag(lambda: [self.partition], lambda: self.committed, self._never)

    async def _never(self, _: object) -> dict[int, int]:
        raise AssertionError("not asked here")

    def still_s(self, now_s: float) -> float:
        self.lag.look(now_s)
        return self.lag.still_s(now_s)[0]


def test_lag_is_what_lies_behind_the_last_record_folded() -> None:
    world = World()
    assert world.lag.records() == {}  # not known is not zero
    world.lag.heard({0: 100})
    world.partition.last_offset = 39
    assert world.lag.records() == {0: 60}
    world.partition.last_offset = 99
    assert world.lag.records() == {0: 0}


def test_a_quiet_partition_never_stands_still_and_work_begins_to_count_when_it_comes() -> None:
    world = World()
    world.lag.heard({0: 0})
    assert world.still_s(0.0) == 0.0
    assert world.still_s(1000.0) == 0.0
    world.lag.heard({0: 5})
    assert world.still_s(1005.0) == 5.0


def test_a_commit_that_moves_on_starts_the_clock_anew() -> None:
    world = World()
    world.lag.heard({0: 1000})
    world.still_s(0.0)
    assert world.still_s(40.0) == 40.0
    world.committed[0] = 500
    assert world.still_s(45.0) == 0.0
    assert world.still_s(80.0) == 35.0


def test_what_is_folded_and_never_acknowledged_or_committed_counts_too() -> None:
    world = World()
    world.lag.heard({0: 10})
    world.committed[0] = 5
    world.partition.last_offset = 9
    world.still_s(0.0)
    assert world.still_s(10.0) == 10.0  # folded, not committed
    world.committed[0] = 10
    assert world.still_s(20.0) == 0.0
    world.partition.taken.append(Taken(1, None))
    assert world.still_s(30.0) == 10.0
    world.partition.taken.clear()
    assert world.still_s(40.0) == 0.0


def test_a_partition_that_came_back_begins_anew() -> None:
    world = World()
    world.lag.heard({0: 10})
    world.still_s(0.0)
    world.partition = Partition(0, cast(PartitionTable, None))
    assert world.still_s(90.0) == 0.0


def test_bytes_of_a_table_by_kind(tmp_path: Path) -> None:
    table = PartitionTable(tmp_path / "t", 1 << 20)
    table.write([(b"user-%d" % at, bytes(1000)) for at in range(1000)], 0)
    table.close()
    table = PartitionTable(tmp_path / "t", 1 << 20)
    found = table.bytes_by_kind()
    assert found["files"] > 1000
    assert sum(found.values()) - found["files"] == table.memory_bytes()
    table.close()
