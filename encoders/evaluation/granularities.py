"""Every configuration of the model on the same questions, and whether all beat the best alone."""

from __future__ import annotations

from pathlib import Path

from encoders.errors import EncoderError
from encoders.evaluation.bootstrap import Estimate, differences
from encoders.evaluation.grid import Cell, Variants, cells
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.plan import Bar, Setting
from encoders.evaluation.ranking import Result
from encoders.evaluation.results import Grid, GridLine, Measured
from state.window import WindowPolicy

_DECIDING = "ndcg@10"


def compare(setting: Setting, variants: Variants, policy: WindowPolicy, bar: Bar) -> Grid:
    """Return a line per cell, trained ones first; a cell that the model's tensors do not fit says
    why instead."""
    lines = []
    measured: dict[Cell, Result] = {}
    every = [*variants.also(), *cells(variants.config)]
    progress = bar("configurations")
    for done, cell in enumerate(every, start=1):
        result, refused = _asked(cell, setting, variants, policy)
        found = None
        if result is not None:
            measured[cell] = result
            found = Measured.of(cell.granularities, result, setting.plan.seed)
        name = Path(cell.trained).name
        lines.append(GridLine(cell.granularities, cell.fusion, cell.context, found, refused, name))
        progress(done, len(every))
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


def _asked(
    cell: Cell, setting: Setting, variants: Variants, policy: WindowPolicy
) -> tuple[Result | None, str]:
    data = setting.questions.data
    try:
        encoder = variants.trained(cell.trained) if cell.trained else variants.make(cell.config)
    except EncoderError as error:
        return None, _without_folder(str(error))
    try:
        put_texts(encoder, data)
        return setting.ask(InterestScorer(encoder, data, policy)), ""
    finally:
        encoder.close()


def _without_folder(refusal: str) -> str:
    """The variant's folder is a temporary one: what is wrong stands behind the colon."""
    return refusal.partition(": ")[2] or refusal


def _best(measured: dict[Cell, Result], labels: tuple[str, ...]) -> Cell | None:
    among = [cell for cell in measured if cell.granularities in labels]
    if not among:
        return None
    return max(among, key=lambda cell: float(measured[cell].values[_DECIDING].mean()))


def _difference(ours: Result, theirs: Result, seed: int) -> dict[str, Estimate]:
    return differences(ours.values, theirs.values, ours.users, seed=seed)


def _name(cell: Cell) -> str:
    with_context = "with context" if cell.context else "without context"
    trained = f", {Path(cell.trained).name}" if cell.trained else ""
    return f"{cell.granularities}, {cell.fusion}, {with_context}{trained}"
