"""Ranks and metrics: what is doubtful counts against the model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from encoders.evaluation.metrics import (
    NOT_FOUND,
    by_question,
    coverage,
    listed,
    ranks_of,
    recommended,
)
from encoders.evaluation.prequential import replay
from encoders.evaluation.ranking import ask, cosine_scores
from encoders.evaluation.splits import leave_last_out
from tests.harness.clusters import clustered
from tests.harness.scorers import Fixed, FixedStream

NAN, INF = math.nan, math.inf
NOTHING: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
WORLD = clustered(users=12, events_each=8)


@pytest.mark.parametrize("score", [0.0, 1.0, NAN, INF, -INF])
def test_a_model_that_says_the_same_of_all_items_scores_zero(score: float) -> None:
    questions = leave_last_out(WORLD)
    result = ask(Fixed(score), questions)
    assert {name: values.max() for name, values in result.values.items()} == dict.fromkeys(
        result.values, 0.0
    )
    assert result.coverage == 0.0
    streamed = replay(WORLD, FixedStream(WORLD, score), start=len(WORLD) // 2)
    assert all(values.max() == 0.0 for values in streamed.values.values())


def test_a_small_catalogue_does_not_let_equal_scores_in() -> None:
    ranks = ranks_of(np.zeros((1, 4)), np.array([2]), NOTHING)
    assert by_question(ranks)["recall@10"][0] == 0.0


def test_a_model_that_knows_the_answer_scores_one() -> None:
    result = ask(Fixed(0.0, of_target=1.0), leave_last_out(WORLD))
    assert {float(values.min()) for values in result.values.values()} == {1.0}


@pytest.mark.parametrize(("others", "own"), [(NAN, 1.0), (1.0, NAN), (1.0, 1.0), (1.0, -INF)])
def test_what_is_not_a_number_stands_against_us(others: float, own: float) -> None:
    result = ask(Fixed(others, of_target=own), leave_last_out(WORLD))
    assert result.values["recall@20"].max() == 0.0


def test_ranks_by_hand() -> None:
    # target 2 (0.5): 0 is better, 1 ties, 4 is not a number, 3 and 5 are behind; 5 was seen
    scores = np.array([[0.9, 0.5, 0.5, 0.1, NAN, 0.2]])
    ranks = ranks_of(scores, np.array([2]), [np.array([5])])
    assert (ranks.ranks[0], ranks.beaten[0], ranks.candidates[0]) == (3, 1, 4)
    values = by_question(ranks, cuts=(3, 4))
    assert values["recall@3"][0] == 0.0
    assert values["recall@4"][0] == 1.0
    assert values["ndcg@4"][0] == pytest.approx(1 / math.log2(5))
    assert values["mrr@4"][0] == 0.25
    assert values["auc"][0] == 0.25


def test_seen_items_are_no_rivals() -> None:
    scores = np.array([[9.0, 8.0, 1.0, 0.0]])
    assert ranks_of(scores, np.array([2]), NOTHING).ranks[0] == 2
    assert ranks_of(scores, np.array([2]), [np.array([0, 1])]).ranks[0] == 0


def test_a_target_that_beats_nobody_is_not_found() -> None:
    assert ranks_of(np.array([[3.0, 2.0, 1.0]]), np.array([2]), NOTHING).ranks[0] == NOT_FOUND


def test_a_target_among_the_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="its target 1 is excluded"):
        ranks_of(np.zeros((1, 3)), np.array([1]), [np.array([1])])
    with pytest.raises(ValueError, match="do not fit together"):
        ranks_of(np.zeros((2, 3)), np.array([1]), NOTHING)


def test_lists_leave_out_what_ties_over_the_edge_and_what_was_seen() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 3.0, NAN, 1.0], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    chosen = recommended(scores, [np.zeros(0, np.int64), np.array([0])], cut=3)
    assert listed(chosen, cut=3).tolist() == [[0, 1, -1], [1, 2, 3]]
    assert coverage(chosen.any(axis=0)) == pytest.approx(4 / 6)


def test_the_same_item_twice_ties_with_itself() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(size=(401, 384)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    items = np.concatenate([items, items[:1]])
    scores = cosine_scores(items[:100], items)
    assert np.array_equal(scores[:, 0], scores[:, -1])
