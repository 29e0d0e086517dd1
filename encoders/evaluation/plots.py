"""The pictures of the report, as PNG bytes. Needs the extra ``evaluation`` (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from encoders.evaluation.results import OURS, Delayed, GridLine, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
_OURS, _OTHERS = "#1f6f8b", "#b8c4c9"


def models(lines: Sequence[Measured], metric: str = "recall@10") -> bytes:
    """Return bars of one metric with its intervals, one per model."""
    figure = new_figure(7.0, 0.4 * len(lines) + 1.0)
    axes = figure.subplots()
    means = [line.metrics[metric].mean for line in lines]
    below = [line.metrics[metric].mean - line.metrics[metric].low for line in lines]
    above = [line.metrics[metric].high - line.metrics[metric].mean for line in lines]
    colours = [_OURS if line.name == OURS else _OTHERS for line in lines]
    axes.barh([line.name for line in lines], means, xerr=[below, above], color=colours, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric}, with its 95 % interval")
    return png(figure)


def delays(lines: Sequence[Delayed], metrics: Sequence[str] = ("recall@10", "ndcg@10")) -> bytes:
    """Return each metric over the delays, by events and by time, with its interval.

    ``lines`` begin with no delay at all, which begins both curves.
    """
    figure = new_figure(8.0, 3.2)
    by_events = [line for line in lines if "event" in line.measured.name]
    by_time = [line for line in lines[1:] if line not in by_events]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, late in zip(panels, (by_events, by_time), strict=True):
        shown = [lines[0], *late]
        places = np.arange(len(shown))
        for metric in metrics:
            found = [line.measured.metrics[metric] for line in shown]
            axes.plot(places, [value.mean for value in found], marker="o", label=metric)
            axes.fill_between(
                places, [value.low for value in found], [value.high for value in found], alpha=0.2
            )
        axes.set_xticks(places, [line.measured.name for line in shown])
        axes.set_xlabel("how late the vector is")
    panels[0].set_ylim(bottom=0.0)
    panels[0].legend()
    return png(figure)


def has_grid(lines: Sequence[GridLine]) -> bool:
    """Whether there is anything to compare in a heat map."""
    return len({line.granularities for line in lines}) > 1


def grid(lines: Sequence[GridLine], metric: str = "ndcg@10") -> bytes:
    """Return a heat map of one metric: granularities by fusion and context; empty: not asked. Where
    two models have a cell, it shows the first's."""
    rows = list(dict.fromkeys(line.granularities for line in lines))
    columns = list(dict.fromkeys(_column(line) for line in lines))
    values = np.full((len(rows), len(columns)), np.nan)
    for line in lines:
        place = rows.index(line.granularities), columns.index(_column(line))
        if np.isnan(values[place]):
            values[place] = line.measured.metrics[metric].mean
    figure = new_figure(8.0, 4.2)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(values), aspect="auto", cmap="viridis")
    axes.set_xticks(np.arange(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(np.arange(len(rows)), rows)
    middle = np.nanmean([np.nanmin(values), np.nanmax(values)])
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.4f}", ha="center", va="center", color=colour)
    figure.colorbar(image, label=metric)
    return png(figure)


def _column(line: GridLine) -> str:
    return line.fusion + (" + context" if line.context else "")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, of so many inches."""
    from matplotlib.figure import Figure

    # No pyplot: it would pick a screen, and keep every figure.
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """Return the figure's file."""
    held = io.BytesIO()
    # No software line in the file: the same figures give the same bytes.
    figure.savefig(held, format="png", dpi=_DPI, metadata={"Software": None})
    return held.getvalue()
