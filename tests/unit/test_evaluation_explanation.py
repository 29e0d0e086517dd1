"""A score taken apart: the parts add up, exactly where linear, and deletion agrees with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from encoders import EncoderConfig, InterestEncoder, WindowBatch
from encoders.evaluation import deletion, leave_last_out
from encoders.evaluation.explanation import Explainer, Explanation
from encoders.evaluation.grid import TransformerVariants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import held, put_texts, window_batch
from encoders.evaluation.plan import Plan, Setting
from encoders.evaluation.results import OURS, Explained
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from state.window import WindowPolicy
from tests.conformance.models import tiny_bert
from tests.harness.clusters import clustered

POLICY = WindowPolicy()
ALL = ("word", "sentence", "paragraph", "document")
WORLD = clustered(users=40, searches=True)
QUICK = TrainingSettings(
    dimensions=32, tower_hidden=32, epochs=2, batch_windows=32, learning_rate=5e-3, warm_up_steps=5
)
TRAINED = {
    "everything": {"granularities": ALL, "residual": True, "interests": 2},
    "attention": {"granularities": ALL, "fusion": "attention"},
    "no reader": {"granularities": ("word", "paragraph"), "fusion": "concat", "layers": 0},
}


class Quiet:
    def bar(self, what: str):  # type: ignore[no-untyped-def]
        return lambda done, total: None

    def step(self, number: int, loss: float, rate: float) -> None: ...

    def epoch(self, report: object) -> None: ...


def raise_residuals(folder: Path) -> None:
    """Two epochs hardly move them: make them weigh, so that leaving them out shows."""
    file = folder / "interest.safetensors"
    tensors = load_file(file)
    if "residual.vectors" in tensors:
        tensors["residual.vectors"] = tensors["residual.vectors"] * 30.0
        save_file(tensors, file)


Make = Callable[[str], TransformerVariants]


@pytest.fixture(scope="module")
def variants_of(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a model of a kind, trained once."""
    text_model = tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    config = EncoderConfig(text_model=str(text_model), device="cpu", slab_rows=512)

    @functools.cache
    def make(kind: str) -> TransformerVariants:
        work = tmp_path_factory.mktemp("work")
        folder = ""
        if kind != "untrained":
            folder = str(work / "trained")
            settings = msgspec.structs.replace(QUICK, **TRAINED[kind])
            train(TrainingData(WORLD), settings, config, Path(folder), Quiet())  # type: ignore[arg-type]
            raise_residuals(Path(folder))
        return TransformerVariants(replace(config, interest_model=folder), WORLD.texts, work)

    return make


def windows(data: Interactions, count: int) -> list[WindowBatch]:
    found = []
    for user in range(count):
        positions = held(np.flatnonzero(data.users == user), data.times_ms, POLICY)
        found.append(window_batch(data, [positions]))
    return found


def told(
    variants: TransformerVariants, count: int = 6
) -> tuple[Explainer, InterestEncoder, list[tuple[WindowBatch, np.ndarray, Explanation]]]:
    explainer = variants.explainer(WORLD.texts)
    assert explainer is not None
    encoder = variants.make(variants.config)
    put_texts(encoder, WORLD)
    items = encoder.item_vectors(np.arange(count, dtype=np.int32))
    cases = [
        (window, item, explainer.explain(window, item))
        for window, item in zip(windows(WORLD, count), items, strict=True)
    ]
    return explainer, encoder, cases


@pytest.mark.parametrize("kind", ["untrained", *TRAINED])
def test_the_parts_add_up_to_the_score_that_the_encoder_gives(variants_of: Make, kind: str) -> None:
    variants = variants_of(kind)
    explainer, encoder, cases = told(variants)
    for window, item, found in cases:
        served = float(encoder.encode(window).vectors[0] @ item)
        assert found.score == pytest.approx(served, abs=2e-5)
        assert abs(found.gap) < (1e-5 if explainer.is_linear else 1e-3)
        assert found.events.shape == (len(found.granularities), len(found.places))
        assert np.abs(found.events).max() > 1e-3
    assert explainer.is_linear == (kind == "untrained")


def test_an_untrained_models_shares_are_those_of_the_formula(variants_of: Make) -> None:
    variants = variants_of("untrained")
    _, encoder, cases = told(variants)
    items = encoder.item_vectors(np.arange(len(WORLD.texts), dtype=np.int32))
    _, item, found = cases[0]
    weights = 2.0 ** (-np.arange(len(found.places) - 1, -1, -1) / 3.0)
    # an item's vector is its centred text at unit length: shares go as weight, length and cosine
    shares = found.events[0] / (weights * (items[found.rows] @ item))
    lengths = shares / shares[0]
    texts = np.array([WORLD.texts[row] for row in found.rows])
    for text in set(texts):
        assert np.ptp(lengths[texts == text]) < 1e-4
    assert found.rest == pytest.approx(0.0, abs=1e-6)
    assert found.context == 0.0


@pytest.mark.parametrize("kind", ["untrained", "attention"])
def test_words_add_up_to_their_event_less_what_special_tokens_add(
    variants_of: Make, kind: str
) -> None:
    explainer, _, cases = told(variants_of(kind))
    _, _, found = cases[0]
    shares = found.events.sum(axis=0)
    for event in range(len(shares)):
        words = explainer.words(found, event)
        text = WORLD.texts[found.rows[event]]
        assert [word for word, _ in words] == text.replace("-", " - ").split()
        assert np.isfinite([share for _, share in words]).all()
    # without special tokens the sum is the share itself
    word_level = np.zeros_like(found.slopes)
    word_level[:, :, 0] = found.slopes[:, :, 0]
    only = replace(found, slopes=word_level)
    levels = explainer._levels.numpy()
    for event, row in enumerate(found.rows):
        expected = float((word_level[:, event, 0].sum(0) * levels[row, 0]).sum())
        total = sum(share for _, share in explainer.words(only, event))
        assert total == pytest.approx(expected, abs=1e-5)


def test_one_user_at_a_time_and_no_user_without_texts(variants_of: Make) -> None:
    explainer, _, cases = told(variants_of("untrained"), 1)
    _, item, _ = cases[0]
    with pytest.raises(ValueError, match="no text of this window is known"):
        explainer.explain(window_batch(WORLD, [np.zeros(0, dtype=np.int64)]), item)
    two = window_batch(WORLD, [np.array([0]), np.array([1])])
    with pytest.raises(ValueError, match="one user at a time, not 2"):
        explainer.explain(two, item)


def taken_apart(variants: TransformerVariants, policy: WindowPolicy = POLICY) -> Explained:
    explainer = variants.explainer(WORLD.texts)
    assert explainer is not None
    encoder = variants.make(variants.config)
    put_texts(encoder, WORLD)
    setting = Setting.of(WORLD, Plan(), "random")
    found = deletion.run(setting, encoder, explainer, policy, no_bar)
    assert found is not None
    return found


def no_bar(what: str):  # type: ignore[no-untyped-def]
    return lambda done, total: None


@pytest.mark.parametrize("kind", ["untrained", "everything"])
def test_deletion_takes_most_where_the_shares_say_so(
    variants_of: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "TAKEN_OUT", (1, 3))
    found = taken_apart(variants_of(kind))
    none, one, three = found.deletions
    assert none.most == none.random == none.least
    for line in (one, three):
        assert line.most.mean < min(line.random.mean, line.least.mean)
        if kind == "untrained":  # a reader's events work together: the least are no mirror image
            assert line.random.mean < line.least.mean
        assert line.most.mean < none.most.mean
    if kind == "untrained":  # nor does what they take away grow with their number
        assert three.most.mean < one.most.mean
    assert set(found.granularities) >= {"document", "context", "rest"}
    assert sum(found.granularities.values()) == pytest.approx(none.most.mean, abs=0.3)
    assert found.examples[0].events[0].words


def test_what_is_left_is_measured_from_the_score_that_is_explained(
    variants_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of users whose past is longer than a window, which the context counts, too."""
    monkeypatch.setattr(deletion, "TAKEN_OUT", (1, 3))
    found = taken_apart(variants_of("everything"), WindowPolicy(max_events=8))
    assert found.gap < 1e-2
    none = found.deletions[0]
    assert none.most.mean == pytest.approx(sum(found.granularities.values()), abs=5e-4)
    for line in (*found.deletions, *found.word_deletions):
        assert line.gap is not None
        assert line.gap.mean == pytest.approx(line.most.mean - line.random.mean)


@pytest.mark.parametrize("kind", ["untrained", "everything"])
def test_the_score_falls_most_without_the_words_that_are_said_to_matter(
    variants_of: Make, kind: str
) -> None:
    found = taken_apart(variants_of(kind))
    none, *lines = found.word_deletions
    assert [line.count for line in found.word_deletions] == [0, 1, 2, 3]
    assert none.most == none.random == none.least
    for line in lines:
        assert line.most.mean < min(none.most.mean, line.random.mean)
        assert line.random.mean < line.least.mean


def test_a_model_of_several_interests_is_asked_by_one_and_by_the_best(variants_of: Make) -> None:
    variants = variants_of("everything")
    texts = leave_last_out.text_vectors(variants, WORLD, no_bar)
    found = leave_last_out.run(WORLD, variants, texts, POLICY, Plan(grid=False), no_bar)
    one, best = found.several
    ours = next(line for line in found.models if line.name == OURS)
    assert one.metrics == {name: ours.metrics[name] for name in one.metrics}
    assert best.metrics["auc"].mean != one.metrics["auc"].mean
    alone = variants_of("attention")
    single = leave_last_out.run(WORLD, alone, texts, POLICY, Plan(grid=False), no_bar)
    assert single.several == []
