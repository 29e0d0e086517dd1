"""The pictures of a drift report, as PNG bytes. Needs the extra ``evaluation`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.evaluation.drift import Drift
from encoders.evaluation.plots import new_figure, png

Shown = Sequence[tuple[str, Drift]]


def neighbours(shown: Shown) -> bytes:
    """Return how many of each user's 10 neighbours are kept, part by part."""
    return _histograms(
        [(name, drift.kept) for name, drift in shown],
        "share of 10 neighbours kept",
        np.linspace(-0.05, 1.05, 12),
    )


def aligned(shown: Shown) -> bytes:
    """Return each user's cosine between the models once they are laid onto each other."""
    lowest = min(float(drift.aligned.min()) for _, drift in shown)
    bins = np.linspace(min(lowest, 0.9), 1.0, 41)
    return _histograms(
        [(name, drift.aligned) for name, drift in shown], "cosine after the best rotation", bins
    )


def norms(shown: Shown) -> bytes:
    """Return the norms' means and what all but one in a hundred lie between, of both models."""
    drawn = new_figure(7.0, 0.45 * len(shown) + 1.2)
    axes = drawn.subplots()
    for place, (_, drift) in enumerate(shown):
        for spread, shift, colour in zip(
            drift.norms, (-0.12, 0.12), ("#1f6f8b", "#d98b3a"), strict=True
        ):
            axes.plot([spread.low, spread.high], [place + shift] * 2, color=colour, linewidth=3)
            axes.plot([spread.mean], [place + shift], marker="o", color=colour)
    axes.set_yticks(np.arange(len(shown)), [name for name, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("norm: live (blue) and shadow (orange), mean and 1 % to 99 %")
    return png(drawn)


def _histograms(
    parts: Sequence[tuple[str, npt.NDArray[np.float64]]], label: str, bins: npt.NDArray[np.float64]
) -> bytes:
    drawn = new_figure(8.0, 1.5 * len(parts) + 0.6)
    panels = drawn.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, parts, strict=True):
        axes.hist(values, bins=bins, weights=np.full(len(values), 1 / len(values)), color="#1f6f8b")
        axes.axvline(float(values.mean()), color="#d98b3a")
        axes.set_ylabel(name, fontsize=8)
    panels[-1].set_xlabel(f"{label}; the line is the mean")
    return png(drawn)
