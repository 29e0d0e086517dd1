"""What an evaluation found, as plain values: what the tables, plots and JSON are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from encoders.evaluation.bootstrap import Estimate, estimates
from encoders.evaluation.breakdowns import Part
from encoders.evaluation.lists import gini
from encoders.evaluation.ranking import Result

OURS = "interest_model"
"""The name of the model under evaluation in every table."""


@dataclass(frozen=True)
class Measured:
    """One line of a table of models."""

    name: str
    metrics: dict[str, Estimate]
    coverage: float
    """Share of the catalogue that stands in anybody's ten."""
    gini: float
    """How unequally recommendations are spread over the catalogue: 0 alike, 1 one has all."""

    @classmethod
    def of(cls, name: str, result: Result, seed: int) -> Measured:
        """Return means and intervals of all metrics of ``result``."""
        metrics = estimates(result.values, result.users, seed=seed)
        return cls(name, metrics, result.coverage, gini(result.exposure))


@dataclass(frozen=True)
class Delayed:
    """Our model with vectors that come late."""

    measured: Measured
    lost: dict[str, Estimate]
    """Late minus at once, paired."""
    told: float
    """Share of the users who have a vector by then."""
    lost_told: dict[str, Estimate] | None = None
    """``lost`` among these users alone."""


@dataclass(frozen=True)
class GridLine:
    """One cell of the comparison of configurations."""

    granularities: str
    fusion: str
    context: bool
    measured: Measured
    model: str = ""
    """Name of its folder, of another model than the one under evaluation."""
    against_all: Estimate | None = None
    """NDCG@10 minus that of the same model with all granularities, paired."""


@dataclass(frozen=True)
class Grid:
    """All cells; and the best with all granularities minus the best with one, paired."""

    lines: Sequence[GridLine] = ()
    best_of_all: str = ""
    best_alone: str = ""
    difference: dict[str, Estimate] = field(default_factory=dict)
    """Empty where either is missing."""


@dataclass(frozen=True)
class Protocol:
    """All that one protocol gave."""

    name: str
    rule: str
    """How the questions were made, in a sentence."""
    order: str
    """Of events of the same time."""
    from_ms: int
    """When the first question is asked, milliseconds since the epoch."""
    questions: int
    users: int
    models: Sequence[Measured]
    differences: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Ours minus theirs by name of the other model, paired."""
    breakdowns: dict[str, dict[str, list[Part]]] = field(default_factory=dict)
    """By name of the model, then of what it is broken down by."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a baseline is not there, by name."""
    staleness: Sequence[Delayed] = ()
    grid: Grid | None = None
    several: Sequence[Measured] = ()
    """One vector per user against K; empty where the model has one."""
    other_order: Sequence[Measured] = ()
    """The same models where events of the same time are in the other order."""


@dataclass(frozen=True)
class Shift:
    """How far users' vectors and lists move when their texts change."""

    what: str
    users: int
    cosine: float
    """Mean over users of the cosine of the vector before and after."""
    cosine_p05: float
    """One user in twenty moves further than this."""
    overlap: float
    """Mean share of the ten recommended items that stay."""


@dataclass(frozen=True)
class Counterfactual:
    """What a swapped group word does; beside it, as a measure, what leaving its event out does."""

    pairs: Sequence[tuple[str, str]]
    texts: int
    """Texts of the catalogue that hold one of the words."""
    users: int
    """Asked users with such a text in their window."""
    asked: int
    shifts: Sequence[Shift]


@dataclass(frozen=True)
class Deleted:
    """What is left of a score when so many events, or words, are taken away."""

    count: int
    most: Estimate
    """Those that are said to contribute most."""
    random: Estimate
    least: Estimate
    gap: Estimate | None = None
    """``most`` minus ``random``, paired."""


@dataclass(frozen=True)
class Contribution:
    """What one part of the input adds to a score."""

    what: str
    value: float
    words: Sequence[tuple[str, float]] = ()
    """Of an event: what those of its words add that add or take most."""


@dataclass(frozen=True)
class Example:
    """One score, taken apart."""

    user: str
    item: str
    score: float
    events: Sequence[Contribution]
    """The events that add most and least, the largest first."""


@dataclass(frozen=True)
class Explained:
    """How well scores can be taken apart, over a sample of questions."""

    questions: int
    method: str
    gap: float
    """Mean distance of a score from the sum of its parts."""
    granularities: dict[str, float]
    """Mean contribution of each granularity, and of the context, to the score of the top item."""
    deletions: Sequence[Deleted]
    examples: Sequence[Example]
    word_deletions: Sequence[Deleted] = ()
    """Of words, from the text of the event that contributes most."""


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
    counterfactual: Counterfactual | None = None
    explanation: Explained | None = None
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
