"""Nothing of the future reaches a question: a planted future item changes no score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from encoders import EncoderConfig
from encoders.evaluation import baselines
from encoders.evaluation.grid import StubVariants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import Delay, InterestScorer, put_texts
from encoders.evaluation.prequential import Stream, replay
from encoders.evaluation.ranking import Scorer
from encoders.evaluation.splits import Questions, leave_last_out
from encoders.evaluation.streams import (
    InterestStream,
    KnnStream,
    MeanStream,
    PopularityStream,
    RandomStream,
)
from encoders.interface import InterestEncoder
from state.window import WindowPolicy
from tests.harness.clusters import clustered
from tests.harness.scorers import DAY_MS

WORLD = clustered(users=40, events_each=12)
PLANTED = 7
HOUR_MS = 3_600_000
POLICY = WindowPolicy()


def encoder() -> InterestEncoder:
    variants = StubVariants(EncoderConfig(kind="stub", slab_rows=256))
    made = variants.make(variants.config)
    put_texts(made, WORLD)
    return made


def vectors() -> np.ndarray:
    return encoder().item_vectors(np.arange(len(WORLD.texts), dtype=np.int32))


def with_planted_future(questions: Questions) -> Questions:
    """From each user's answer on, only one item, of another type, dwell and text, ever happens."""
    data = questions.data
    late = ~questions.training
    assert late.sum() > len(questions)
    return replace(
        questions,
        data=replace(
            data,
            items=np.where(late, PLANTED, data.items),
            rows=np.where(late, PLANTED, data.rows).astype(np.int32),
            types=np.where(late, 2, data.types).astype(np.uint8),
            dwell_ms=np.where(late, 99_000, data.dwell_ms).astype(np.int32),
        ),
    )


SCORERS: dict[str, Callable[[Questions], Scorer]] = {
    "random": lambda questions: baselines.Random(0),
    "popularity": baselines.Popularity,
    "popularity_30_days": baselines.RecentPopularity,
    "item_knn": baselines.ItemKnn,
    "mean": lambda questions: baselines.MeanVector(vectors(), len(WORLD.item_ids)),
    "interest": lambda questions: InterestScorer(encoder(), questions.data, POLICY),
    "an event late": lambda q: InterestScorer(encoder(), q.data, POLICY, Delay(events=1)),
    "an hour late": lambda q: InterestScorer(encoder(), q.data, POLICY, Delay(span_ms=HOUR_MS)),
}


@pytest.mark.parametrize("name", SCORERS)
def test_a_planted_future_changes_no_score(name: str) -> None:
    questions = leave_last_out(WORLD)
    planted = with_planted_future(questions)
    every = range(len(questions))
    before = SCORERS[name](questions).scores(questions, every)
    after = SCORERS[name](planted).scores(planted, every)
    assert np.array_equal(before, after)
    assert before.std() > 0.0


STREAMS: dict[str, Callable[[Interactions, int], Stream]] = {  # type: ignore[type-arg]
    "random": lambda data, start: RandomStream(data, 0),
    "popularity": lambda data, start: PopularityStream(data),
    "popularity_30_days": lambda data, start: PopularityStream(data, 30 * DAY_MS),
    "item_knn": KnnStream,
    "mean": lambda data, start: MeanStream(
        data, baselines.MeanVector(vectors(), len(data.item_ids))
    ),
    "interest": lambda data, start: InterestStream(encoder(), data, POLICY),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_ranks_with_what_was_published_before(name: str) -> None:
    ranks, again = with_and_without_a_planted_future(STREAMS[name])
    assert np.array_equal(ranks, again)


def with_and_without_a_planted_future(
    make: Callable[[Interactions, int], Stream],
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the same questions; in the second world all that happens after them is planted."""
    start = len(WORLD) // 2
    late = np.arange(len(WORLD)) >= start + (len(WORLD) - start) // 2
    planted = replace(
        WORLD,
        items=np.where(late, PLANTED, WORLD.items),
        rows=np.where(late, PLANTED, WORLD.rows).astype(np.int32),
    )
    early, again = (replay(data, make(data, start), start=start) for data in (WORLD, planted))
    same = min(int((again.targets != PLANTED).sum()), len(early.targets)) - 1
    assert same > 100
    assert np.array_equal(early.targets[:same], again.targets[:same])
    return early.ranks.ranks[:same], again.ranks.ranks[:same]


def test_a_model_that_counts_the_future_is_told_apart() -> None:
    """The test above can fail: popularity over all events changes when the future does."""
    questions = leave_last_out(WORLD)
    planted = with_planted_future(questions)
    every = np.ones(len(WORLD), dtype=bool)
    before, after = (
        baselines.Popularity(replace(asked, training=every)).scores(asked, range(len(asked)))
        for asked in (questions, planted)
    )
    assert not np.array_equal(before, after)


def test_a_stream_that_peeks_is_told_apart() -> None:
    """The test of streams can fail: one that counts the whole future is noticed."""

    class Peeking(PopularityStream):
        def __init__(self, data: Interactions) -> None:
            super().__init__(data)
            self._ever = np.bincount(data.items, minlength=len(data.item_ids))

        def published(self, user: int) -> np.ndarray:
            return self._ever

    ranks, again = with_and_without_a_planted_future(lambda data, start: Peeking(data))
    assert not np.array_equal(ranks, again)
