"""Baselines by hand, the model against them, delays, and a stream against windows."""

from __future__ import annotations

import numpy as np
import pytest

from encoders import EncoderConfig, Interests, WindowBatch
from encoders.evaluation import baselines
from encoders.evaluation.grid import StubVariants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import Delay, InterestScorer, best_of_several, held, put_texts
from encoders.evaluation.prequential import replay
from encoders.evaluation.ranking import ask
from encoders.evaluation.splits import leave_last_out
from encoders.evaluation.streams import InterestStream, KnnStream, PopularityStream
from encoders.interface import InterestEncoder
from state.window import WindowPolicy
from tests.harness.clusters import clustered
from tests.harness.scorers import DAY_MS, world

POLICY = WindowPolicy()
DATA = world(
    ("u", "a", 1), ("u", "b", 2), ("v", "a", 3), ("v", "b", 4), ("w", "a", 5), ("w", "c", 6),
    ("u", "d", 7), ("v", "c", 8), ("w", "e", 9),
)  # fmt: skip


def stub(data: Interactions) -> InterestEncoder:
    variants = StubVariants(EncoderConfig(kind="stub", slab_rows=256))
    made = variants.make(variants.config)
    put_texts(made, data)
    return made


def test_popularity_counts_training_events() -> None:
    questions = leave_last_out(DATA)
    assert baselines.Popularity(questions).scores(questions, range(1)).tolist() == [
        [3, 2, 1, 0, 0, 0]
    ]


def test_recent_popularity_counts_what_lies_before_the_question() -> None:
    questions = leave_last_out(DATA)
    recent = baselines.RecentPopularity(questions, span_ms=4).scores(questions, range(3))
    assert recent.tolist() == [[2, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]]


def test_what_others_do_at_the_very_time_of_the_question_is_not_known_yet() -> None:
    data = world(
        ("u", "a", 1), ("u", "b", 2), ("u", "c", 7), ("v", "e", 7), ("v", "f", 8), ("v", "a", 9)
    )  # fmt: skip
    questions = leave_last_out(data)
    recent = baselines.RecentPopularity(questions).scores(questions, range(1))
    assert recent.tolist() == [[1, 1, 0, 0, 0, 0]]


def test_item_knn_is_the_cosine_of_columns() -> None:
    questions = leave_last_out(DATA)
    knn = baselines.ItemKnn(questions)
    # a: u v w, b: u v, c: w
    assert knn.similar[0, 1] == pytest.approx(2 / np.sqrt(6))
    assert knn.similar[0, 2] == pytest.approx(1 / np.sqrt(3))
    assert knn.similar[1, 2] == 0.0
    assert np.diagonal(knn.similar).max() == 0.0
    scores = knn.scores(questions, range(1))[0]  # u had a and b
    assert scores[:3] == pytest.approx([2 / np.sqrt(6), 2 / np.sqrt(6), 1 / np.sqrt(3)])
    decayed = baselines.ItemKnn(questions, half_life=1.0).scores(questions, range(1))[0]
    assert decayed[:3] == pytest.approx([2 / np.sqrt(6), 1 / np.sqrt(6), 0.5 / np.sqrt(3)])


def test_item_knn_refuses_a_catalogue_it_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_KNN_ITEMS", 5)
    with pytest.raises(baselines.TooManyItems, match="up to 5 items, the catalogue has 6"):
        baselines.ItemKnn(leave_last_out(DATA))


def test_the_centred_decayed_mean_by_hand() -> None:
    vectors = np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]], dtype=np.float32)  # c has no text
    model = baselines.MeanVector(vectors, 3, centred=True, half_life_events=1.0)
    scores = model.of_rows([np.array([0, 2, -1, 1])])
    # centre (1.5, 1.5); a counts half of b: (1.5, -1.5)/2 + (-1.5, 1.5) points to b
    assert scores[0] == pytest.approx([-1.0, 1.0, 0.0])
    plain = baselines.MeanVector(vectors, 3).of_rows([np.array([0, 1])])
    assert plain[0] == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 0.0], abs=1e-6)


def test_the_models_vector_is_the_decayed_mean_of_the_baseline() -> None:
    data = clustered(users=20)
    encoder = stub(data)
    questions = leave_last_out(data)
    vectors = encoder.item_vectors(np.arange(len(data.texts), dtype=np.int32))
    every = range(len(questions))
    ours = InterestScorer(encoder, data, POLICY).scores(questions, every)
    mean = baselines.MeanVector(vectors, len(data.item_ids), half_life_events=3.0)
    assert ours == pytest.approx(mean.scores(questions, every), abs=3e-6)


def test_a_delay_beyond_the_past_leaves_nothing() -> None:
    """A user with 60 events and a vector 100 events late has none: not the first 20."""
    rows = [("u", "abcde"[place % 5], place) for place in range(60)] + [("u", "f", 99)]
    data = world(*rows)
    questions = leave_last_out(data)
    encoder = stub(data)

    def scores(delay: Delay) -> np.ndarray:
        return InterestScorer(encoder, data, POLICY, delay).scores(questions, range(1))[0]

    assert not scores(Delay(events=100)).any()
    assert scores(Delay(events=59)).any()
    assert not scores(Delay(span_ms=100)).any()
    assert np.array_equal(scores(Delay(span_ms=99 - 3)), scores(Delay(events=56)))
    assert not np.array_equal(scores(Delay()), scores(Delay(events=1)))
    with pytest.raises(ValueError, match="must be 0 or more"):
        Delay(events=-1)


def test_windows_hold_what_the_policy_says() -> None:
    times_ms = np.array([0, 10, 20, 30 * DAY_MS + 15])
    every = np.arange(4)
    assert held(every, times_ms, POLICY).tolist() == [2, 3]
    assert held(every, times_ms, WindowPolicy(max_events=1)).tolist() == [3]
    assert held(every[:0], times_ms, POLICY).tolist() == []


def test_the_best_of_several_vectors_scores() -> None:
    several = np.array([[[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32)
    items = np.array([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)
    assert best_of_several(several, items).tolist() == [pytest.approx([0.8, 1.0, 0.0])]


def test_what_the_stream_publishes_is_what_the_windows_give() -> None:
    """The fold of the worker and the columns of leave-last-out lead to the same ranks."""
    data = clustered(users=30, searches=True)
    encoder = stub(data)
    questions = leave_last_out(data)
    offline = ask(InterestScorer(encoder, data, POLICY), questions)
    streamed = replay(data, InterestStream(encoder, data, POLICY), start=0)
    # the last question of each user in the stream is leave-last-out's
    last = {int(user): at for at, user in enumerate(streamed.users)}
    places = [last[int(user)] for user in offline.users]
    assert np.array_equal(streamed.targets[places], offline.targets)
    assert np.array_equal(streamed.ranks.ranks[places], offline.ranks.ranks)
    assert offline.values["recall@10"].mean() > 0.0


class Spying:
    """An encoder that remembers what it was asked."""

    def __init__(self, encoder: InterestEncoder) -> None:
        self._encoder = encoder
        self.asked: list[WindowBatch] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        self.asked.append(batch)
        return self._encoder.encode(batch, with_granularities=with_granularities)


def test_the_stream_asks_the_encoder_for_the_same_windows() -> None:
    """Every column of the last question: rows, times, types, dwell, and all-time counts."""
    data = clustered(users=1, events_each=70, searches=True, items_each=30)
    spy = Spying(stub(data))
    questions = leave_last_out(data)
    InterestScorer(spy, data, POLICY).scores(questions, range(1))  # type: ignore[arg-type]
    replay(data, InterestStream(spy, data, POLICY), start=int(questions.asked_at[0]))  # type: ignore[arg-type]
    offline, streamed = spy.asked
    for column in ("rows", "offsets", "times_ms", "types", "dwell_ms", "counts"):
        assert np.array_equal(getattr(offline, column), getattr(streamed, column)), column
    assert offline.counts is not None
    assert offline.counts.sum() > len(offline.rows) == 50
    assert len(np.unique(offline.types)) > 2


def test_streams_by_hand() -> None:
    start = len(DATA) - 3
    popular = PopularityStream(DATA, span_ms=4)
    for position in range(len(DATA)):
        popular.apply(position)
    assert popular.published(0).tolist() == [1, 0, 2, 1, 1, 0]
    knn = KnnStream(DATA, start)
    for position in range(start):
        knn.apply(position)
    questions = leave_last_out(DATA)
    of_users = [knn.published(int(user)) for user in questions.users]
    expected = baselines.ItemKnn(questions).scores(questions, range(3))
    assert knn.scores(of_users) == pytest.approx(expected)


def test_only_the_sampled_users_are_asked_and_all_events_are_applied() -> None:
    result = replay(DATA, PopularityStream(DATA), start=6, users=frozenset({0}))
    assert result.users.tolist() == [0]
    assert result.targets.tolist() == [3]
