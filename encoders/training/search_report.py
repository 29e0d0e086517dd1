"""The report of a search: ``tuning.md`` with a table of all trials, and ``tuning.png``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from encoders.errors import EncoderConfigInvalid

REPORT_FILE = "tuning.md"
PLOT_FILE = "tuning.png"

_PANEL_INCHES = (3.2, 2.8)


def write_report(folder: Path, trials: Sequence[FrozenTrial], best: int) -> None:
    """Write both files. A trial that was cut short counts with what it had reached.

    Raises:
        EncoderConfigInvalid: matplotlib is not installed.
    """
    names = sorted({name for trial in trials for name in trial.params})
    _plot(folder / PLOT_FILE, trials, names, best)
    lines = [
        "# Search for settings",
        "",
        f"{len(trials)} trials, {sum(t.state is TrialState.PRUNED for t in trials)} of them cut "
        f"short; the best is {best}. What is compared is the best NDCG@10 on the validation's "
        "questions.",
        "",
        f"![NDCG@10 by trial and by each parameter]({PLOT_FILE})",
        "",
        "| trial | NDCG@10 | evaluations | ended | " + " | ".join(names) + " |",
        "|---:|---:|---:|---|" + "---:|" * len(names),
    ]
    for trial in sorted(trials, key=_reached, reverse=True):
        whole = trial.state is TrialState.COMPLETE
        ended = "whole" if whole else trial.user_attrs.get("ended", "cut short")
        values = " | ".join(_told(trial.params.get(name, "")) for name in names)
        count = len(trial.intermediate_values)
        lines.append(f"| {trial.number} | {_reached(trial):.4f} | {count} | {ended} | {values} |")
    (folder / REPORT_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _reached(trial: FrozenTrial) -> float:
    """The value of a whole trial, the last of one that was cut short."""
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return trial.value
    return max(trial.intermediate_values.values(), default=0.0)


def _plot(path: Path, trials: Sequence[FrozenTrial], names: Sequence[str], best: int) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EncoderConfigInvalid(
            "matplotlib is not installed: install interest-stream[evaluation]"
        ) from None
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * (len(names) + 1), height), layout="constrained")
    panels = figure.subplots(1, len(names) + 1, sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, ("trial", *names), strict=True):
        for state, colour in ((TrialState.COMPLETE, "tab:blue"), (TrialState.PRUNED, "lightgrey")):
            chosen = [
                t for t in trials if t.state is state and (name in t.params or name == "trial")
            ]
            x = [t.number if name == "trial" else t.params[name] for t in chosen]
            panel.scatter(x, [_reached(t) for t in chosen], s=14, color=colour)
        winner = next(t for t in trials if t.number == best)
        panel.scatter(
            [best if name == "trial" else winner.params[name]],
            [_reached(winner)],
            s=60,
            facecolors="none",
            edgecolors="tab:red",
        )
        panel.set_xlabel(name)
        if name in ("learning_rate", "weight_decay"):
            panel.set_xscale("log")
    panels[0].set_ylabel("NDCG@10")
    figure.savefig(path, dpi=120)


def _told(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
