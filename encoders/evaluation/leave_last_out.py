"""Everything that is asked on leave-last-out questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.errors import EncoderError
from encoders.evaluation import baselines, breakdowns
from encoders.evaluation.bootstrap import Estimate, differences
from encoders.evaluation.grid import Variants, cells
from encoders.evaluation.interactions import Interactions, Order, in_time_order
from encoders.evaluation.interest import Delay, InterestScorer, put_texts
from encoders.evaluation.ranking import Progress, Result, Scorer, ask, seen_items
from encoders.evaluation.results import OURS, GridLine, Measured, Protocol
from encoders.evaluation.splits import Part, Questions, leave_last_out
from encoders.interface import Float32, Int64, InterestEncoder
from state.window import WindowPolicy

DELAYS = {
    "at once": Delay(),
    "1 event": Delay(events=1),
    "10 events": Delay(events=10),
    "100 events": Delay(events=100),
    "1 hour": Delay(span_ms=3_600_000),
    "1 day": Delay(span_ms=86_400_000),
}
"""How late a reader's vector is: what real time is worth."""

BROKEN_DOWN = ("recall@10", "ndcg@10", "auc")

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


def text_vectors(variants: Variants, data: Interactions, bar: Bar) -> Float32:
    """Return [R, T] vectors of all texts as the text model has them, for the baselines."""
    plain = variants.plain()
    try:
        put_texts(plain, data, bar("texts"))
        return plain.item_vectors(np.arange(len(data.texts), dtype=np.int32))
    finally:
        plain.close()


def run(
    data: Interactions, variants: Variants, texts: Float32, policy: WindowPolicy, plan: Plan,
    bar: Bar,
) -> Protocol:  # fmt: skip
    """Return metrics of the model and of all baselines, broken down, delayed and reconfigured.

    ``texts`` is [R, T] of :func:`text_vectors`.
    """
    setting = Setting.of(data, plan, plan.order)
    ordered = setting.questions.data
    encoder = variants.make(variants.config)
    try:
        put_texts(encoder, ordered)
        results = _models(setting, encoder, texts, policy, bar)
        staleness = [
            Measured.of(
                name, setting.ask(InterestScorer(encoder, ordered, policy, delay)), plan.seed
            )
            for name, delay in DELAYS.items()
        ]
        file_order = _models(Setting.of(data, plan, "file"), encoder, texts, policy, bar)
    finally:
        encoder.close()
    grid = _grid(setting, variants, policy, bar) if plan.grid else []
    return Protocol(
        name="leave_last_out",
        rule=_rule(setting.questions, plan),
        questions=len(setting.questions),
        users=len(setting.questions),
        models=[Measured.of(name, result, plan.seed) for name, result in results.items()],
        differences=gaps(results, plan.seed),
        breakdowns=_breakdowns(setting, results),
        staleness=staleness,
        grid=grid,
        file_order=[Measured.of(name, result, plan.seed) for name, result in file_order.items()],
    )


def gaps(results: dict[str, Result], seed: int) -> dict[str, dict[str, Estimate]]:
    """Return ours minus each of the others, on the same questions."""
    ours = results[OURS]
    return {
        name: differences(ours.values, result.values, ours.users, seed=seed)
        for name, result in results.items()
        if name != OURS
    }


def _models(
    setting: Setting, encoder: InterestEncoder, texts: Float32, policy: WindowPolicy, bar: Bar
) -> dict[str, Result]:
    results = {}
    for name, make in _scorers(setting, encoder, texts, policy).items():
        try:
            results[name] = setting.ask(make(), bar(name))
        except baselines.TooManyItems:
            continue  # the report names the models it has
    return results


def _scorers(
    setting: Setting, encoder: InterestEncoder, texts: Float32, policy: WindowPolicy
) -> dict[str, Callable[[], Scorer]]:
    """What makes each model; made one after the other, for item-kNN holds a large matrix."""
    questions, plan = setting.questions, setting.plan
    count = len(questions.data.item_ids)
    half_life = plan.half_life_events
    return {
        "random": lambda: baselines.Random(plan.seed),
        "popularity": lambda: baselines.Popularity(questions),
        "popularity_30_days": lambda: baselines.RecentPopularity(questions),
        "item_knn": lambda: baselines.ItemKnn(questions, recent=20),
        "item_knn_decayed": lambda: baselines.ItemKnn(questions, half_life=half_life),
        "mean": lambda: baselines.MeanVector(texts, count),
        "centred_decayed_mean": lambda: baselines.MeanVector(
            texts, count, centred=True, half_life_events=half_life
        ),
        OURS: lambda: InterestScorer(encoder, questions.data, policy),
    }


def _grid(setting: Setting, variants: Variants, policy: WindowPolicy, bar: Bar) -> list[GridLine]:
    lines = []
    every = list(cells(variants.config))
    progress = bar("configurations")
    ordered = setting.questions.data
    for done, cell in enumerate(every, start=1):
        try:
            encoder = variants.make(cell.config)
        except EncoderError as error:
            lines.append(GridLine(cell.granularities, cell.fusion, cell.context, None, str(error)))
            continue
        try:
            put_texts(encoder, ordered)
            result = setting.ask(InterestScorer(encoder, ordered, policy))
        finally:
            encoder.close()
        measured = Measured.of(cell.granularities, result, setting.plan.seed)
        lines.append(GridLine(cell.granularities, cell.fusion, cell.context, measured))
        progress(done, len(every))
    return lines


def _breakdowns(
    setting: Setting, results: dict[str, Result]
) -> dict[str, dict[str, list[breakdowns.Part]]]:
    questions = setting.questions
    data = questions.data
    counts = baselines.item_counts(data, np.flatnonzero(questions.training))
    lengths = questions.stops - questions.starts
    labels = {
        "popularity of the target": breakdowns.by_popularity(questions.targets, counts),
        "events before": breakdowns.by_length(lengths),
        "activity": breakdowns.by_activity(lengths),
        **breakdowns.by_groups(data, questions.users),
    }
    return {
        name: {
            what: breakdowns.breakdown(results[name], of, BROKEN_DOWN, seed=setting.plan.seed)
            for what, of in labels.items()
        }
        for name in (OURS, "popularity", "item_knn_decayed")
        if name in results
    }


def _rule(questions: Questions, plan: Plan) -> str:
    last = "last" if plan.part == "test" else "last but one"
    within = "a random order" if plan.order == "random" else "the order of the file"
    return (
        f"Each user's {last} new item, ranked among all {len(questions.data.item_ids)} items of "
        f"the catalogue that the user had not met; events of the same time are in {within}."
    )
