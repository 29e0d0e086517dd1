"""What an evaluation found, as plain values: what the tables, plots and JSON are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from encoders.evaluation.bootstrap import Estimate, estimates
from encoders.evaluation.breakdowns import Part
from encoders.evaluation.ranking import Result

OURS = "interest_model"
"""The name of the model under evaluation in every table."""


@dataclass(frozen=True)
class Measured:
    """One line of a table of models."""

    name: str
    metrics: dict[str, Estimate]
    coverage: float

    @classmethod
    def of(cls, name: str, result: Result, seed: int) -> Measured:
        """Return means and intervals of all metrics of ``result``."""
        return cls(name, estimates(result.values, result.users, seed=seed), result.coverage)


@dataclass(frozen=True)
class GridLine:
    """One cell of the comparison of configurations; ``refused`` says why it has no metrics."""

    granularities: str
    fusion: str
    context: bool
    measured: Measured | None = None
    refused: str = ""


@dataclass(frozen=True)
class Protocol:
    """All that one protocol gave."""

    name: str
    rule: str
    """How the questions were made, in a sentence."""
    questions: int
    users: int
    models: Sequence[Measured]
    differences: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Ours minus theirs by name of the other model, paired."""
    breakdowns: dict[str, dict[str, list[Part]]] = field(default_factory=dict)
    """By name of the model, then of what it is broken down by."""
    staleness: Sequence[Measured] = ()
    """Ours with delayed updates."""
    grid: Sequence[GridLine] = ()
    file_order: Sequence[Measured] = ()
    """The same models where events of the same time keep the order of the file."""


@dataclass(frozen=True)
class Report:
    """Everything, with what one needs to do it again."""

    command: str
    seed: int
    versions: dict[str, str]
    model: dict[str, Any]
    data: dict[str, Any]
    protocols: Sequence[Protocol]
    seconds: float
    notes: Sequence[str] = ()


def to_json(report: Report) -> bytes:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def last_line(report: Report) -> dict[str, Any]:
    """Return the main metrics of our model: the JSON that ``evaluate`` ends with."""
    main: dict[str, Any] = {"model_id": report.model["model_id"], "seed": report.seed}
    for protocol in report.protocols:
        ours = next(line for line in protocol.models if line.name == OURS)
        main[protocol.name] = {
            "questions": protocol.questions,
            **{name: round(value.mean, 6) for name, value in ours.metrics.items()},
            "coverage@10": round(ours.coverage, 6),
        }
    main["seconds"] = round(report.seconds, 1)
    return main
