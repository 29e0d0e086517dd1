"""Intervals, breakdowns, what lists are like, and whether all granularities beat the best one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as replaced

import numpy as np
import pytest
from msgspec.structs import replace

from encoders import EncoderConfig, InterestConfig, InterestEncoder
from encoders.evaluation.bootstrap import differences, estimates
from encoders.evaluation.breakdowns import breakdown, by_activity, by_length, by_popularity
from encoders.evaluation.counterfactual import PAIRS, swapped
from encoders.evaluation.counterfactual import run as swap
from encoders.evaluation.granularities import compare
from encoders.evaluation.grid import Cell, StubVariants, cells
from encoders.evaluation.interactions import from_events
from encoders.evaluation.interest import put_texts
from encoders.evaluation.lists import diversity, genre_shares, gini, miscalibration
from encoders.evaluation.plan import Plan, Setting
from encoders.evaluation.plots import grid as draw
from encoders.evaluation.plots import has_grid
from encoders.evaluation.ranking import ask
from encoders.evaluation.results import Grid
from encoders.evaluation.splits import leave_last_out
from encoders.evaluation.staleness import DELAYS, staleness
from state.window import WindowPolicy
from tests.harness.clusters import clustered
from tests.harness.scorers import Fixed, events_of

POLICY = WindowPolicy()


def no_bar(what: str):  # type: ignore[no-untyped-def]
    return lambda done, total: None


def test_intervals_hold_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        values = (rng.random(300) < 0.3).astype(float)
        found = estimates({"x": values}, np.arange(300), seed=seed, resamples=200)["x"]
        assert found.low <= found.mean <= found.high
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 200


def test_a_users_questions_are_not_independent() -> None:
    """Ten copies of each user's value say no more than one does."""
    values = (np.random.default_rng(0).random(200) < 0.5).astype(float)
    one = estimates({"x": values}, np.arange(200), seed=0)["x"]
    ten = estimates({"x": np.repeat(values, 10)}, np.repeat(np.arange(200), 10), seed=0)["x"]
    assert ten.mean == one.mean
    assert ten.high - ten.low == pytest.approx(one.high - one.low)


def test_paired_differences_cancel_what_is_common() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    ours, theirs = {"x": hard + 0.01}, {"x": hard}
    gap = differences(ours, theirs, np.arange(500), seed=0)["x"]
    assert (gap.low, gap.mean, gap.high) == pytest.approx((0.01, 0.01, 0.01))
    apart = estimates(ours, np.arange(500), seed=0)["x"]
    assert apart.high - apart.low > 0.03
    with pytest.raises(ValueError, match="500 values against 3"):
        differences(ours, {"x": hard[:3]}, np.arange(500), seed=0)
    with pytest.raises(ValueError, match=r"level 1\.5"):
        estimates(ours, np.arange(500), seed=0, level=1.5)


def test_popularity_thirds_and_cold_items() -> None:
    counts = np.array([4, 50, 10, 30, 10, 0, 6])
    labels = by_popularity(np.arange(7), counts)
    assert labels.tolist() == [
        "4 cold", "1 head", "3 tail", "2 middle", "3 tail", "4 cold", "3 tail",
    ]  # fmt: skip


def test_lengths_and_activity() -> None:
    assert by_length(np.array([1, 19, 20, 50, 199, 200])).tolist() == [
        "001-019", "001-019", "020-049", "050-099", "100-199", "200+",
    ]  # fmt: skip
    thirds = by_activity(np.arange(9))
    assert [label[0] for label in thirds] == list("111222333")


def test_a_breakdown_has_the_metrics_of_its_questions() -> None:
    result = ask(Fixed(0.0, of_target=1.0), leave_last_out(clustered(users=10)))
    labels = np.array(["a"] * 4 + ["b"] * 6)
    result.values["recall@10"][:4] = 0.0
    parts = breakdown(result, labels, ["recall@10"], seed=0)
    assert [(p.label, p.questions, p.metrics["recall@10"].mean) for p in parts] == [
        ("a", 4, 0.0), ("b", 6, 1.0),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="3 labels for 10 questions"):
        breakdown(result, labels[:3], ["recall@10"], seed=0)


def test_diversity_of_alike_and_opposite_texts() -> None:
    texts = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], dtype=np.float32)
    lists = np.array([[0, 1, -1], [0, 2, -1], [0, -1, -1], [-1, -1, -1]], dtype=np.int32)
    assert diversity(lists, texts) == pytest.approx([0.0, 2.0, 0.0, 0.0])


def test_calibration_by_hand() -> None:
    shares = genre_shares([("A",), ("B",), ("A", "B"), ()])
    assert shares.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0, 0]]
    past = [np.array([0, 0, 1, 2, 2])]  # A 3/5, B 2/5
    same, only_a, nothing = ([0, 0, 1, 2, 2], [0, 0, 0, -1, -1], [-1] * 5)
    of = [miscalibration(np.array([chosen]), past, shares)[0] for chosen in (same, only_a, nothing)]
    assert of[0] == pytest.approx(0.0, abs=1e-12)
    mixed = np.array([0.99 + 0.006, 0.004])
    assert of[1] == pytest.approx(0.6 * np.log(0.6 / mixed[0]) + 0.4 * np.log(0.4 / mixed[1]))
    assert of[2] == pytest.approx(np.log(100))


def test_exposure() -> None:
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.zeros(4, dtype=int)) == 1.0


class Ignorant(StubVariants):
    """A stub whose word granularity knows nothing."""

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        if config.weights["word"] and sum(config.weights.values()) == 1.0:
            return super().make(InterestConfig(rank_half_life_events=1e-3))
        return super().make(config)


def setting(users: int = 60) -> Setting:
    return Setting.of(clustered(users=users), Plan(seed=1), "random")


EVERY = [
    "word", "sentence", "paragraph", "document",
    "without word", "without sentence", "without paragraph", "without document", "all",
]  # fmt: skip
ALL = dict.fromkeys(("word", "sentence", "paragraph", "document"), 1.0)


def test_untrained_every_granularity_is_asked_alone_left_out_and_with_all_others() -> None:
    every = list(cells(InterestConfig(), trained=False))
    assert [cell.granularities for cell in every] == EVERY
    assert {cell.context for cell in every} == {False}, "it is zero"
    assert every[4].config.weights == {"word": 0, "sentence": 1, "paragraph": 1, "document": 1}


def test_a_trained_model_is_asked_for_what_it_was_trained_for() -> None:
    as_it_is = InterestConfig(weights=ALL, fusion="concat")
    (only,) = cells(as_it_is, trained=True)
    assert only.config == as_it_is
    varied = replace(as_it_is, every_subset=True)
    every = list(cells(varied, trained=True, model="m"))
    assert [cell.granularities for cell in every[::2]] == EVERY
    assert [cell.context for cell in every] == [True, False] * 9
    assert {(cell.fusion, cell.model) for cell in every} == {("concat", "m")}
    two = replace(varied, weights=ALL | {"word": 0.0, "sentence": 0.0}, context=False)
    labels = [cell.granularities for cell in cells(two, trained=True)]
    assert labels == ["paragraph", "document", "paragraph + document"]


def test_all_granularities_are_compared_with_the_best_alone() -> None:
    grid = compare(setting(), Ignorant(EncoderConfig(kind="stub", slab_rows=512)), POLICY, no_bar)
    assert grid.best_of_all.startswith("all, ")
    assert set(grid.difference) >= {"ndcg@10", "recall@10"}
    means = {line.granularities: line.measured.metrics["ndcg@10"].mean for line in grid.lines}
    for line in grid.lines:
        if line.granularities == "all":
            assert line.against_all is None
        else:
            assert line.against_all is not None
            gap = means[line.granularities] - means["all"]
            assert line.against_all.mean == pytest.approx(gap)
    best_alone = max(means[name] for name in ("word", "sentence", "paragraph", "document"))
    assert grid.difference["ndcg@10"].mean == pytest.approx(means["all"] - best_alone)


class Accompanied(StubVariants):
    """A model with another one beside it that was trained for a cell of its own."""

    def cells(self) -> Iterator[Cell]:
        yield from super().cells()
        weights = {"word": 1.0, "sentence": 1.0, "paragraph": 0.0, "document": 2.0}
        yield Cell.of(InterestConfig(weights=weights, fusion="add"), "models/best")

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        assert model in ("", "models/best")
        return super().make(InterestConfig(rank_half_life_events=1e-3) if model else config)


def test_other_models_are_compared_by_name() -> None:
    variants = Accompanied(EncoderConfig(kind="stub", slab_rows=512))
    grid = compare(setting(), variants, POLICY, no_bar)
    *own, other = grid.lines
    assert (other.granularities, other.fusion, other.context) == ("without paragraph", "add", True)
    assert [line.model for line in own] == [""] * 9
    assert other.model == "best"
    same = next(line for line in own if line.granularities == other.granularities)
    assert other.measured.metrics != same.measured.metrics
    assert has_grid(grid.lines)
    assert not has_grid([other, other]), "one row"
    assert draw(grid.lines) == draw([*grid.lines, replaced(own[0], measured=other.measured)])


class Alone(StubVariants):
    """A model of one configuration."""

    def cells(self) -> Iterator[Cell]:
        yield Cell.of(self.config)

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        pytest.fail("nothing is to be compared")


def test_one_configuration_is_compared_with_nothing() -> None:
    grid = compare(setting(), Alone(EncoderConfig(kind="stub", slab_rows=512)), POLICY, no_bar)
    assert grid == Grid()


def test_a_cell_is_named_after_what_takes_part() -> None:
    def label(*active: str) -> str:
        weights = dict.fromkeys(active, 1.0)
        return Cell.of(InterestConfig(weights=weights)).granularities

    assert label("word", "sentence", "paragraph", "document") == "all"
    assert label("word", "sentence", "paragraph") == "without document"
    assert label("word", "document") == "word + document"
    assert label("word") == "word"


def test_late_vectors_are_compared_with_prompt_ones() -> None:
    asked = setting()
    variants = StubVariants(EncoderConfig(kind="stub", slab_rows=512))
    encoder = variants.make(variants.config)
    put_texts(encoder, asked.questions.data)
    lines = {line.measured.name: line for line in staleness(asked, encoder, POLICY, no_bar)}
    assert list(lines) == list(DELAYS)
    prompt, late = lines["at once"], lines["100 events"]
    assert prompt.lost["ndcg@10"].mean == 0.0
    assert late.measured.metrics["recall@10"].mean == 0.0  # nobody has 100 events
    assert late.lost["recall@10"].mean == -prompt.measured.metrics["recall@10"].mean < 0.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A Man and his GIRL", "A Woman and her BOY"),
        ("Manhattan, Germany, the heist", "Manhattan, Germany, the heist"),
        ("Woman's World", "Man's World"),
        ("he told him", "she told her"),
    ],
)
def test_group_words_are_swapped_and_nothing_else(before: str, after: str) -> None:
    assert swapped(before) == after


def test_every_pair_goes_both_ways() -> None:
    for one, other in PAIRS:
        assert swapped(f"{one} {other}") == f"{other} {one}"


def test_swapped_words_move_whom_they_reach_and_nobody_else() -> None:
    texts = {"a": "a man", "b": "a boat", "c": "a car", "d": "a dog", "e": "an egg"}
    events = events_of(
        ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("v", "b", 1), ("v", "c", 2), ("v", "d", 3),
    )  # fmt: skip
    asked = Setting.of(from_events(events, texts), Plan(), "file")
    variants = StubVariants(EncoderConfig(kind="stub", slab_rows=32))
    encoder = variants.make(variants.config)
    put_texts(encoder, asked.questions.data)
    found = swap(asked, encoder, POLICY, no_bar)
    assert found is not None
    assert (found.texts, found.users, found.asked) == (1, 1, 2)
    words, lost, left_out = found.shifts
    assert words.cosine < 0.99  # a stub's vector of another text is another one
    assert left_out.cosine < 0.99
    assert words.cosine != left_out.cosine
    assert lost.what.endswith("lost")
    # the item that is ranked is never changed, so the vector before is the encoder's own
    del texts["a"]
    nobody = Setting.of(
        from_events(events_of(("v", "b", 1), ("v", "c", 2), ("v", "d", 3)), texts), Plan(), "file"
    )
    assert swap(nobody, encoder, POLICY, no_bar) is None
