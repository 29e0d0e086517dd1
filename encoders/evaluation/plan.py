"""What is asked of whom: the plan of an evaluation, and the questions it leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from encoders.evaluation.interactions import Interactions, Order, in_time_order
from encoders.evaluation.ranking import Progress, Result, Scorer, ask, seen_items
from encoders.evaluation.splits import Part, Questions, leave_last_out
from encoders.interface import Int64

Bar = Callable[[str], Progress]
"""Begins a piece of work of this name, and gives the function that says how far it is."""


@dataclass(frozen=True)
class Plan:
    """What is to be asked of whom."""

    seed: int = 0
    users: int | None = None
    """So many users are asked, drawn by the seed; None: all."""
    part: Part = "test"
    order: Order = "random"
    """Of events of the same time."""
    grid: bool = True
    """Whether the configurations of the model are compared."""
    half_life_events: float = 3.0
    """Of the decayed baselines: the untrained model's own, chosen on validation events."""


@dataclass(frozen=True)
class Setting:
    """What is asked, in what order of the same-time events."""

    plan: Plan
    questions: Questions
    seen: Sequence[Int64]

    @classmethod
    def of(cls, data: Interactions, plan: Plan, order: Order) -> Setting:
        """Return the questions of ``plan`` under ``order``."""
        ordered = in_time_order(data, order=order, seed=plan.seed)
        questions = leave_last_out(ordered, plan.part, users=plan.users, seed=plan.seed)
        return cls(plan, questions, seen_items(questions))

    def ask(self, scorer: Scorer, progress: Progress | None = None) -> Result:
        """Return what came of asking ``scorer``."""
        return ask(scorer, self.questions, self.seen, progress)
