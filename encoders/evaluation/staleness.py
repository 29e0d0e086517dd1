"""What real time is worth: the same users and questions, with vectors that come late."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from encoders.evaluation.bootstrap import differences
from encoders.evaluation.interest import Delay, InterestScorer
from encoders.evaluation.metrics import Float64
from encoders.evaluation.plan import Bar, Setting
from encoders.evaluation.ranking import Result
from encoders.evaluation.results import Delayed, Measured
from encoders.interface import InterestEncoder
from state.window import WindowPolicy

DELAYS = {
    "at once": Delay(),
    "1 event": Delay(events=1),
    "10 events": Delay(events=10),
    "100 events": Delay(events=100),
    "1 hour": Delay(span_ms=3_600_000),
    "1 day": Delay(span_ms=86_400_000),
}
"""How late a reader's vector is. A user with nothing older has no vector yet, which finds nothing:
that is what a late vector means to a new user."""


def staleness(
    setting: Setting, encoder: InterestEncoder, policy: WindowPolicy, bar: Bar
) -> list[Delayed]:
    """Return the metrics of our model under each delay, and what is lost against none."""
    seed = setting.plan.seed
    data = setting.questions.data
    progress = bar("delays")
    prompt: Result | None = None
    lines = []
    for done, (name, delay) in enumerate(DELAYS.items(), start=1):
        scorer = InterestScorer(encoder, data, policy, delay)
        late = setting.ask(scorer)
        prompt = prompt or late
        lost = differences(late.values, prompt.values, prompt.users, seed=seed)
        asked = range(len(setting.questions))
        told = np.array([len(scorer.told(setting.questions, at)) > 0 for at in asked])
        among = differences(
            _of(told, late.values), _of(told, prompt.values), prompt.users[told], seed=seed
        )
        lines.append(Delayed(Measured.of(name, late, seed), lost, float(told.mean()), among))
        progress(done, len(DELAYS))
    return lines


def _of(told: npt.NDArray[np.bool_], values: Mapping[str, Float64]) -> dict[str, Float64]:
    return {name: column[told] for name, column in values.items()}
