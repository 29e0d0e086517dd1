"""Everything that is asked prequentially: the stream is played, each new item asked for first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.evaluation.baselines import RECENT_MS, MeanVector, TooManyItems, item_counts
from encoders.evaluation.breakdowns import by_groups, by_popularity
from encoders.evaluation.grid import Variants
from encoders.evaluation.interactions import Interactions, in_time_order
from encoders.evaluation.interest import put_texts
from encoders.evaluation.leave_last_out import broken_down, gaps
from encoders.evaluation.plan import Bar, Plan
from encoders.evaluation.prequential import Stream, replay, start_of_test
from encoders.evaluation.ranking import Result
from encoders.evaluation.results import OURS, Measured, Protocol
from encoders.evaluation.streams import (
    InterestStream,
    KnnStream,
    MeanStream,
    PopularityStream,
    RandomStream,
)
from encoders.interface import Float32, InterestEncoder
from state.window import WindowPolicy

TEST_SHARE = 0.1
"""Of the events: of MovieLens-1M these are 100,000."""


@dataclass(frozen=True)
class _Played:
    data: Interactions
    start: int
    users: frozenset[int] | None


def run(
    data: Interactions, variants: Variants, texts: Float32, policy: WindowPolicy, plan: Plan,
    bar: Bar, test_share: float = TEST_SHARE,
) -> Protocol:  # fmt: skip
    """Return metrics of the model and of all baselines over the last ``test_share`` of events.

    Raises:
        ValueError: nobody meets a new item in the test period.
    """
    ordered = in_time_order(data, order=plan.order, seed=plan.seed)
    start = start_of_test(ordered, test_share)
    played = _Played(ordered, start, _asked(ordered, start, plan))
    encoder = variants.make(variants.config)
    results: dict[str, Result] = {}
    skipped: dict[str, str] = {}
    try:
        put_texts(encoder, ordered)
        for name, make in _streams(played, encoder, texts, policy, plan).items():
            try:
                stream = make()
            except TooManyItems as error:
                skipped[name] = str(error)
                continue
            results[name] = replay(
                ordered, stream, start=start, users=played.users, progress=bar(name)
            )
    finally:
        encoder.close()
    ours = results[OURS]
    counts = item_counts(ordered, np.arange(start))
    labels = {
        "popularity of the target": by_popularity(ours.targets, counts),
        **by_groups(ordered, ours.users),
    }
    return Protocol(
        name="prequential",
        rule=(
            f"Each first meeting of a user with an item among the last {test_share:.0%} of the "
            f"events, ranked among all {len(ordered.item_ids)} items the user had not met, with "
            "what was published before it; then the event is applied. Intervals are over users."
        ),
        order=plan.order,
        from_ms=int(ordered.times_ms[start]),
        skipped=skipped,
        questions=len(ours.users),
        users=len(np.unique(ours.users)),
        models=[Measured.of(name, result, plan.seed) for name, result in results.items()],
        differences=gaps(results, plan.seed),
        breakdowns=broken_down(results, labels, plan.seed),
    )


def _asked(data: Interactions, start: int, plan: Plan) -> frozenset[int] | None:
    """The users who are asked: a sample of those who do anything in the test period."""
    present = np.unique(data.users[start:])
    if plan.users is None or plan.users >= len(present):
        return None
    rng = np.random.default_rng(plan.seed)
    return frozenset(rng.choice(present, plan.users, replace=False).tolist())


def _streams(
    played: _Played,
    encoder: InterestEncoder,
    texts: Float32,
    policy: WindowPolicy,
    plan: Plan,
) -> dict[str, Callable[[], Stream[Any]]]:
    data = played.data
    count = len(data.item_ids)
    half_life = plan.half_life_events
    return {
        "random": lambda: RandomStream(data, plan.seed),
        "popularity": lambda: PopularityStream(data),
        "popularity_30_days": lambda: PopularityStream(data, RECENT_MS),
        "item_knn": lambda: KnnStream(data, played.start, recent=20),
        "item_knn_decayed": lambda: KnnStream(data, played.start, half_life=half_life),
        "mean": lambda: MeanStream(data, MeanVector(texts, count)),
        "centred_decayed_mean": lambda: MeanStream(
            data, MeanVector(texts, count, centred=True, half_life_events=half_life)
        ),
        OURS: lambda: InterestStream(encoder, data, policy, played.users),
    }
