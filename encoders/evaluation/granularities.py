"""Every configuration of the model on the same questions, and whether all beat the best alone."""

from __future__ import annotations

from pathlib import Path

from encoders.evaluation.bootstrap import Estimate, differences
from encoders.evaluation.grid import Cell, Variants
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.plan import Bar, Setting
from encoders.evaluation.ranking import Result
from encoders.evaluation.results import Grid, GridLine, Measured
from state.window import WindowPolicy

_DECIDING = "ndcg@10"


def compare(setting: Setting, variants: Variants, policy: WindowPolicy, bar: Bar) -> Grid:
    """Return a line per cell; none where there is but one, the model as it is."""
    measured: dict[Cell, Result] = {}
    every = list(variants.cells())
    if len(every) == 1:
        return Grid()
    progress = bar("configurations")
    for done, cell in enumerate(every, start=1):
        measured[cell] = _asked(cell, setting, variants, policy)
        progress(done, len(every))
    lines = [_line(cell, measured, setting.plan.seed) for cell in every]
    every_one = _best(measured, ("all",))
    alone = _best(measured, variants.config.granularities)
    if every_one is None or alone is None:
        return Grid(lines)
    return Grid(
        lines,
        _name(every_one),
        _name(alone),
        _difference(measured[every_one], measured[alone], setting.plan.seed),
    )


def _line(cell: Cell, measured: dict[Cell, Result], seed: int) -> GridLine:
    every_one = [
        result
        for other, result in measured.items()
        if other.granularities == "all"
        and other is not cell
        and (other.model, other.fusion, other.context) == (cell.model, cell.fusion, cell.context)
    ]
    return GridLine(
        cell.granularities,
        cell.fusion,
        cell.context,
        Measured.of(cell.granularities, measured[cell], seed),
        Path(cell.model).name,
        _difference(measured[cell], every_one[0], seed)[_DECIDING] if every_one else None,
    )


def _asked(cell: Cell, setting: Setting, variants: Variants, policy: WindowPolicy) -> Result:
    data = setting.questions.data
    encoder = variants.make(cell.config, cell.model)
    try:
        put_texts(encoder, data)
        return setting.ask(InterestScorer(encoder, data, policy))
    finally:
        encoder.close()


def _best(measured: dict[Cell, Result], labels: tuple[str, ...]) -> Cell | None:
    among = [cell for cell in measured if cell.granularities in labels]
    if not among:
        return None
    return max(among, key=lambda cell: float(measured[cell].values[_DECIDING].mean()))


def _difference(ours: Result, theirs: Result, seed: int) -> dict[str, Estimate]:
    return differences(ours.values, theirs.values, ours.users, seed=seed)


def _name(cell: Cell) -> str:
    with_context = "with context" if cell.context else "without context"
    model = f", {Path(cell.model).name}" if cell.model else ""
    return f"{cell.granularities}, {cell.fusion}, {with_context}{model}"
