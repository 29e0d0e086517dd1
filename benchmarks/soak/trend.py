"""Does a series grow? Pure, and hard to impress by spikes, saws and single outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

BLOCKS_MIN = 6
"""Below six blocks the interval of a slope is as wide as all slopes between them: no verdict."""


@dataclass(frozen=True)
class Bound:
    """How much a series may grow, and how it is shown."""

    name: str
    unit: str
    per_hour: float
    """Relative growth: 0.1 is a tenth of the median in an hour."""
    floor: float = 0.0
    """Growth is relative to the median or to this, whichever is more: two files are no trend."""


@dataclass(frozen=True)
class Trend:
    """What was found of a series after the warm-up."""

    name: str
    unit: str
    median: float
    per_hour: float
    low: float
    """Of the 95 % interval of ``per_hour``."""
    high: float
    bound: float
    blocks: int
    scale: float = 1.0
    """What 100 % is."""

    @property
    def judged(self) -> bool:
        """Whether there was enough to say anything."""
        return self.blocks >= BLOCKS_MIN

    @property
    def fails(self) -> bool:
        """Whether it surely grows by more than it may."""
        return self.judged and self.low > self.bound

    def figures(self) -> dict[str, object]:
        """Return everything, for JSON."""
        return asdict(self) | {"judged": self.judged, "fails": self.fails}


def judge(
    bound: Bound,
    times_s: Sequence[float],
    values: Sequence[float],
    *,
    warm_up_s: float,
    block_s: float,
) -> Trend:
    """Return the trend of a series: Theil-Sen's slope over the medians of blocks.

    A block is one cycle of what the soak does, so a saw with that period is a flat line. The slope
    is the median of the slopes between all pairs of blocks, and its 95 % interval comes from
    Kendall's tau (Sen 1968): neither asks for a distribution, and a quarter of the blocks may be
    anything.
    """
    centres_s, medians = blocks(times_s, values, warm_up_s=warm_up_s, block_s=block_s)
    count = len(medians)
    median = float(np.median(medians)) if count else 0.0
    scale = max(median, bound.floor)
    if count < BLOCKS_MIN or scale <= 0:
        return Trend(bound.name, bound.unit, median, 0, 0, 0, bound.per_hour, count, scale)
    found = stats.theilslopes(medians, centres_s / 3600, 0.95)
    slope, low, high = (float(each) / scale for each in (found[0], found[2], found[3]))
    return Trend(bound.name, bound.unit, median, slope, low, high, bound.per_hour, count, scale)


def blocks(
    times_s: Sequence[float], values: Sequence[float], *, warm_up_s: float, block_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and median of every whole block after the warm-up; empty ones are left out."""
    times, found = np.asarray(times_s, float), np.asarray(values, float)
    whole = int((times.max(initial=0.0) - warm_up_s) // block_s)
    centres, medians = [], []
    for number in range(max(0, whole)):
        begin = warm_up_s + number * block_s
        inside = found[(times >= begin) & (times < begin + block_s) & np.isfinite(found)]
        if len(inside):
            centres.append(begin + block_s / 2)
            medians.append(float(np.median(inside)))
    return np.asarray(centres), np.asarray(medians)
