"""Scores of a sample of users taken apart, and the test that the parts are faithful.

If the events that are said to contribute most are taken out of the window, the score must fall
further than when others are (Samek et al. 2017, section 4): the encoder itself says, not the
explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from encoders.evaluation import word_deletion
from encoders.evaluation.interest import all_time, held, window_batch
from encoders.evaluation.metrics import Float64
from encoders.evaluation.plan import Bar, Setting
from encoders.evaluation.ranking import cosine_scores
from encoders.evaluation.results import Contribution, Deleted, Example, Explained
from encoders.evaluation.taking_out import taking_out
from encoders.interface import Float32, Int64, InterestEncoder
from state.window import WindowPolicy

if TYPE_CHECKING:
    from encoders.evaluation.explanation import Explainer, Explanation

SAMPLE_USERS = 200
"""The figures are then sure to about a hundredth, after half a minute on one core."""
TAKEN_OUT = (1, 3, 5, 10)
_EXAMPLES = 2
_EVENTS_SHOWN = 5
_WORDS_SHOWN = 5


@dataclass(frozen=True)
class _Case:
    """The best item of one user, and why it is that."""

    question: int
    past: Int64
    """Positions of all events before the question."""
    window: Int64
    """Positions of those held."""
    item: int
    told: Explanation

    def by_share(self) -> Int64:
        """Positions of the explained events, the largest share first."""
        order = np.argsort(-self.told.events.sum(axis=0), kind="stable")
        ranked: Int64 = self.window[self.told.places[order]]
        return ranked


def run(
    setting: Setting, encoder: InterestEncoder, explainer: Explainer, policy: WindowPolicy, bar: Bar
) -> Explained | None:
    """Return the shares and what deletion says of them; None where nobody has a vector."""
    items = encoder.item_vectors(np.arange(len(setting.questions.data.item_ids), dtype=np.int32))
    rng = np.random.default_rng(setting.plan.seed)
    count = min(SAMPLE_USERS, len(setting.questions))
    chosen = np.sort(rng.choice(len(setting.questions), count, replace=False))
    progress = bar("explanations")
    cases = []
    for done, question in enumerate(chosen.tolist(), start=1):
        case = _case(question, setting, encoder, explainer, policy, items)
        if case is not None:
            cases.append(case)
        progress(done, count)
    if not cases:
        return None
    parts = {
        name: float(np.mean([case.told.events[at].sum() for case in cases]))
        for at, name in enumerate(cases[0].told.granularities)
    }
    parts["context"] = float(np.mean([case.told.context for case in cases]))
    parts["rest"] = float(np.mean([case.told.rest for case in cases]))
    return Explained(
        questions=len(cases),
        method="exact, for this model is linear" if explainer.is_linear else _method(),
        gap=float(np.mean([abs(case.told.gap) for case in cases])),
        granularities=parts,
        deletions=_deletions(setting, encoder, cases, items, rng),
        word_deletions=word_deletion.run(
            setting.questions.data,
            encoder,
            explainer,
            [(case.window, case.told) for case in cases],
            all_time(setting.questions.data, [case.past for case in cases]),
            items[[case.item for case in cases]],
            setting.plan.seed,
        ),
        examples=[_example(setting, explainer, case) for case in cases[:_EXAMPLES]],
    )


def _method() -> str:
    from encoders.evaluation.explanation import STEPS

    return f"integrated gradients, {STEPS} steps"


def _case(
    question: int,
    setting: Setting,
    encoder: InterestEncoder,
    explainer: Explainer,
    policy: WindowPolicy,
    items: Float32,
) -> _Case | None:
    data = setting.questions.data
    past = setting.questions.past(question)
    window = held(past, data.times_ms, policy)
    batch = window_batch(data, [window], all_time(data, [past]))
    vector = encoder.encode(batch).vectors
    if not vector.any():
        return None
    scores = cosine_scores(vector, items)[0]
    scores[setting.seen[question]] = -np.inf
    best = int(scores.argmax())
    return _Case(question, past, window, best, explainer.explain(batch, items[best]))


def _deletions(
    setting: Setting,
    encoder: InterestEncoder,
    cases: Sequence[_Case],
    items: Float32,
    rng: np.random.Generator,
) -> list[Deleted]:
    """Of the users who have more events than are ever taken out: all lines ask the same."""
    most = max(TAKEN_OUT)
    able = [case for case in cases if len(case.told.places) > most]
    if not able:
        return []
    wanted = items[[case.item for case in able]]
    data = setting.questions.data

    def scores_without(gone: Sequence[Int64]) -> Float64:
        left = list(zip(able, gone, strict=True))
        windows = [np.setdiff1d(case.window, out) for case, out in left]
        counts = all_time(data, [np.setdiff1d(case.past, out) for case, out in left])
        vectors = encoder.encode(window_batch(data, windows, counts)).vectors
        scores: Float64 = (vectors * wanted).sum(axis=1).astype(np.float64)
        return scores

    ranked = [case.by_share() for case in able]
    return taking_out(ranked, TAKEN_OUT, scores_without, setting.plan.seed, rng)


def _example(setting: Setting, explainer: Explainer, case: _Case) -> Example:
    data = setting.questions.data
    shares = case.told.events.sum(axis=0)
    order = np.argsort(-shares, kind="stable")
    shown = order if len(order) <= _EVENTS_SHOWN else [*order[: _EVENTS_SHOWN - 1], order[-1]]
    events = [
        Contribution(
            data.texts[int(case.told.rows[event])],
            float(shares[event]),
            _words(explainer.words(case.told, int(event))),
        )
        for event in shown
    ]
    user = data.user_ids[int(setting.questions.users[case.question])]
    return Example(user, data.texts[case.item], case.told.score, events)


def _words(words: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The words that add or take most, and all signs between words as one."""
    told = [(word, share) for word, share in words if any(sign.isalnum() for sign in word)]
    signs = sum(share for word, share in words if not any(sign.isalnum() for sign in word))
    told = sorted(told, key=lambda item: -abs(item[1]))[:_WORDS_SHOWN]
    return [*told, ("(signs)", signs)] if len(told) < len(words) else told
