"""Everything that is asked on leave-last-out questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from encoders.evaluation import baselines, breakdowns
from encoders.evaluation.bootstrap import Estimate, differences
from encoders.evaluation.granularities import compare
from encoders.evaluation.grid import Variants
from encoders.evaluation.interactions import Interactions, Order
from encoders.evaluation.interest import InterestScorer, put_texts, window_batch
from encoders.evaluation.lists import genre_shares, with_lists
from encoders.evaluation.plan import Bar, Plan, Setting
from encoders.evaluation.ranking import Result, Scorer
from encoders.evaluation.results import OURS, Measured, Protocol
from encoders.evaluation.splits import Questions
from encoders.evaluation.staleness import staleness
from encoders.interface import Float32, InterestEncoder
from state.window import WindowPolicy

_BROKEN_DOWN = ("recall@10", "ndcg@10", "auc")
_COMPARED = (OURS, "popularity", "item_knn_decayed")
"""Whose metrics are broken down: ours, and the simplest and the best of the baselines."""
_OTHER_ORDER: dict[Order, Order] = {"random": "file", "file": "random"}


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
    encoder = variants.make(variants.config)
    try:
        put_texts(encoder, data)
        results, skipped = _models(setting, encoder, texts, policy, bar)
        late = staleness(setting, encoder, policy, bar)
        several = _several(setting, encoder, policy, results[OURS])
        other = Setting.of(data, plan, _OTHER_ORDER[plan.order])
        others, _ = _models(other, encoder, texts, policy, bar)
    finally:
        encoder.close()
    shares = genre_shares(data.genres)
    results = {
        name: with_lists(result, texts[: len(data.item_ids)], setting.seen, shares)
        for name, result in results.items()
    }
    return Protocol(
        name="leave_last_out",
        rule=_rule(setting.questions, plan),
        order=plan.order,
        from_ms=int(setting.questions.data.times_ms[setting.questions.asked_at].min()),
        questions=len(setting.questions),
        users=len(setting.questions),
        models=[Measured.of(name, result, plan.seed) for name, result in results.items()],
        differences=gaps(results, plan.seed),
        breakdowns=_breakdowns(setting, results),
        skipped=skipped,
        staleness=late,
        grid=compare(setting, variants, policy, bar) if plan.grid else None,
        several=several,
        other_order=[Measured.of(name, result, plan.seed) for name, result in others.items()],
    )


def gaps(results: dict[str, Result], seed: int) -> dict[str, dict[str, Estimate]]:
    """Return ours minus each of the others, on the same questions."""
    ours = results[OURS]
    return {
        name: differences(ours.values, result.values, ours.users, seed=seed)
        for name, result in results.items()
        if name != OURS
    }


def broken_down(
    results: dict[str, Result], labels: Mapping[str, breakdowns.Labels], seed: int
) -> dict[str, dict[str, list[breakdowns.Part]]]:
    """Return the metrics of the models worth comparing per label, by model and kind of label."""
    return {
        name: {
            what: breakdowns.breakdown(results[name], of, _BROKEN_DOWN, seed=seed)
            for what, of in labels.items()
        }
        for name in _COMPARED
        if name in results
    }


def _models(
    setting: Setting, encoder: InterestEncoder, texts: Float32, policy: WindowPolicy, bar: Bar
) -> tuple[dict[str, Result], dict[str, str]]:
    """The results by name, and why those that are missing are."""
    results, skipped = {}, {}
    for name, make in _scorers(setting, encoder, texts, policy).items():
        try:
            results[name] = setting.ask(make(), bar(name))
        except baselines.TooManyItems as error:
            skipped[name] = str(error)
    return results, skipped


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


def _several(
    setting: Setting, encoder: InterestEncoder, policy: WindowPolicy, one: Result
) -> list[Measured]:
    """One vector per user against the best of K; nothing where the model has no K."""
    data = setting.questions.data
    if encoder.encode(window_batch(data, [setting.questions.past(0)])).several is None:
        return []
    best = setting.ask(InterestScorer(encoder, data, policy, by="several"))
    seed = setting.plan.seed
    return [Measured.of("one vector", one, seed), Measured.of("best of K vectors", best, seed)]


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
    return broken_down(results, labels, setting.plan.seed)


def _rule(questions: Questions, plan: Plan) -> str:
    last = "last" if plan.part == "test" else "last but one"
    within = "a random order" if plan.order == "random" else "the order of the file"
    return (
        f"Each user's {last} new item, ranked among all {len(questions.data.item_ids)} items of "
        f"the catalogue that the user had not met; events of the same time are in {within}."
    )
