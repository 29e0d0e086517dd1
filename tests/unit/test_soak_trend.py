"""The soak's verdict: planted leaks are found, spikes, saws and noise are not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.soak.trend import BLOCKS_MIN, Bound, judge

BOUND = Bound("memory", "MiB", per_hour=0.15)
MINUTES = np.arange(0, 30, 1 / 12)
"""Half an hour, a sample every five seconds."""


def verdict(values, bound: Bound = BOUND, minutes=MINUTES):
    return judge(bound, minutes * 60, values, warm_up_s=360, block_s=120)


def noise(seed: int, size: float):
    return np.random.default_rng(seed).normal(0, size, len(MINUTES))


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_leak_is_found(seed: int) -> None:
    """40 % an hour over 24 minutes: 16 % more at the end, in noise of 3 %."""
    found = verdict(400 * (1 + 0.4 * MINUTES / 60) + noise(seed, 12))
    assert found.fails
    assert found.per_hour == pytest.approx(0.36, abs=0.1)


def test_a_leak_in_steps_is_found() -> None:
    """Something is left behind by every rebalance."""
    assert verdict(200 + 4 * (MINUTES // 2)).fails


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "shape",
    [
        lambda minutes: 0 * minutes,
        lambda minutes: 60 * (minutes % 2),  # a saw: memory fills and is given back in each cycle
        lambda minutes: 200 * np.exp(-minutes / 2),  # what a warm-up looks like
        lambda minutes: np.where((minutes > 20) & (minutes < 23), 300, 0),  # one bad moment
        lambda minutes: 0.05 * 400 * minutes / 60,  # grows, by less than is allowed
    ],
    ids=["flat", "saw", "warm-up", "spike", "little"],
)
def test_what_is_no_leak_is_not_taken_for_one(shape, seed: int) -> None:
    found = verdict(400 + shape(MINUTES) + noise(seed, 12))
    assert found.judged
    assert not found.fails


def test_a_few_samples_of_a_leak_get_no_verdict() -> None:
    minutes = np.arange(0, 6.1 + 2 * (BLOCKS_MIN - 1), 1 / 12)
    found = verdict(400 + 50 * minutes, minutes=minutes)
    assert (found.judged, found.fails) == (False, False)
    assert found.blocks == BLOCKS_MIN - 1


def test_growth_of_next_to_nothing_is_relative_to_the_floor() -> None:
    files = 3 + MINUTES / 10
    assert verdict(files).fails
    assert not verdict(files, Bound("files", "", 0.15, floor=50)).fails


def test_moments_without_a_value_are_left_out() -> None:
    values = np.where(np.arange(len(MINUTES)) % 3 == 0, np.nan, 400 * (1 + 0.5 * MINUTES / 60))
    assert verdict(values).fails
