"""Training on a small world: it must learn, repeat itself, go on where it stopped, and serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from encoders import (
    EncoderConfig,
    EncoderConfigInvalid,
    InterestModelInvalid,
    TrainingDataInvalid,
    TrainingDiverged,
)
from encoders.evaluation.grid import TransformerVariants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import InterestScorer, put_texts, window_batch
from encoders.evaluation.ranking import ask
from encoders.evaluation.splits import Questions, leave_last_out
from encoders.interest_model import InterestModel
from encoders.text_encoder import TextEncoder
from encoders.training import validation
from encoders.training.causal_pass import CausalPass, Subset
from encoders.training.checkpoints import EpochReport
from encoders.training.fingerprint import data_fingerprint
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from encoders.training.validation import ModelScorer
from encoders.transformer import TransformerEncoder
from state.window import WindowPolicy
from tests.conformance.models import tiny_bert, tiny_gpt2
from tests.harness.clusters import clustered

SMALL = TrainingSettings(
    dimensions=32,
    tower_hidden=32,
    epochs=6,
    batch_windows=32,
    learning_rate=5e-3,
    warm_up_steps=5,
    dropout=0.1,
)

SHORT = msgspec.structs.replace(SMALL, epochs=4, patience=0)


class Quiet:
    """A journal that keeps what it is told."""

    def __init__(self, stop_after: int = 0) -> None:
        self.epochs: list[EpochReport] = []
        self.losses: list[float] = []
        self._stop_after = stop_after

    def bar(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: None

    def step(self, number: int, loss: float, rate: float) -> None:
        if self._stop_after and len(self.epochs) == self._stop_after:
            raise KeyboardInterrupt
        self.losses.append(loss)

    def epoch(self, report: EpochReport) -> None:
        self.epochs.append(report)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    return TextEncoder(EncoderConfig(text_model=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def world() -> Interactions:
    return clustered()


def trained(
    data: Interactions,
    settings: TrainingSettings,
    folder: Path,
    text_encoder: TextEncoder,
    journal: Quiet | None = None,
) -> dict[str, object]:
    return train(
        TrainingData(data), settings, EncoderConfig(), folder, journal or Quiet(),
        text_encoder=text_encoder,
    )  # fmt: skip


def served(folder: Path, data: Interactions, text_encoder: TextEncoder) -> TransformerEncoder:
    config = EncoderConfig(interest_model=str(folder), slab_rows=len(data.texts))
    encoder = TransformerEncoder(config, text_encoder=text_encoder)
    assert put_texts(encoder, data) == []
    return encoder


def ndcg(encoder: TransformerEncoder, data: Interactions) -> float:
    questions = leave_last_out(data, "test")
    scorer = InterestScorer(encoder, data, WindowPolicy())
    return float(ask(scorer, questions).values["ndcg@10"].mean())


ALL = ("word", "sentence", "paragraph", "document")
EVERYTHING = [
    {},
    {"granularities": ALL, "residual": True, "interests": 2},
    {"granularities": ALL, "fusion": "attention", "tower_levels": "text"},
    {"granularities": ("word", "paragraph"), "fusion": "concat", "layers": 0},
    {"granularities": ("sentence", "document"), "fusion": "add", "averaging": 0.9},
    {"loss": "cross_entropy", "negatives": "uniform", "negative_count": 20, "residual": True},
    {"loss": "cross_entropy", "negatives": "in_batch", "context": False},
    {"loss": "binary", "context": False},
    {"loss": "squared_error", "accumulation": 2},
    {"pretrain_epochs": 2, "residual": True},
    {"learn_salience": True, "granularities": ("word", "document")},
    {"granularities": ("word", "document", "media"), "fusion": "attention", "residual": True},
    {"granularities": ("sentence", "media"), "fusion": "concat", "layers": 0},
]


@pytest.mark.parametrize("changed", EVERYTHING, ids=str)
def test_what_is_evaluated_is_what_is_served(
    text_encoder: TextEncoder, tmp_path: Path, changed: dict[str, object]
) -> None:
    data = clustered(users=30, searches=True, with_images=True)
    settings = msgspec.structs.replace(SMALL, epochs=2, **changed)
    asked: list[np.ndarray] = []

    class Spy(ModelScorer):
        def vectors(self, questions: Questions, block: range) -> np.ndarray:
            asked.append(super().vectors(questions, block))
            return asked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ModelScorer", Spy)
        report = trained(data, settings, tmp_path, text_encoder)
    encoder = served(tmp_path, data, text_encoder)
    questions = leave_last_out(data, "valid")
    windows = [questions.past(question) for question in range(len(questions))]
    counts = [np.bincount(data.types[window], minlength=5) for window in windows]
    batch = replace(window_batch(data, windows), counts=np.stack(counts))
    interests = encoder.encode(batch)
    assert np.abs(interests.vectors).any(axis=1).all()
    best = report["best_epoch"]
    assert isinstance(best, int)
    assert np.allclose(asked[best - 1 - settings.pretrain_epochs], interests.vectors, atol=1e-5)
    if settings.interests:
        assert interests.several is not None
        assert interests.several.shape == (len(windows), settings.interests, settings.dimensions)
        assert np.allclose(np.linalg.norm(interests.several, axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("fusion", ["add", "weighted_mean", "attention", "concat"])
def test_every_subset_is_served_as_it_was_trained(tmp_path: Path, fusion: str) -> None:
    data = clustered(users=30, searches=True)
    bert = tiny_bert(tmp_path / "bert")
    settings = msgspec.structs.replace(
        SMALL, epochs=2, granularities=ALL, every_subset=True, fusion=fusion
    )
    passes: list[CausalPass] = []
    drawn: list[Subset] = []

    class Spy(ModelScorer):
        def __init__(self, model: CausalPass, known: np.ndarray, policy: WindowPolicy) -> None:
            super().__init__(model, known, policy)
            passes.append(model)

    def draw(model: InterestModel, generator: np.random.Generator) -> Subset:
        drawn.append(own(model, generator))
        return drawn[-1]

    own = Subset.drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ModelScorer", Spy)
        patch.setattr(Subset, "drawn", draw)
        config = EncoderConfig(text_model=str(bert), device="cpu")
        trained(data, settings, tmp_path / "model", TextEncoder(config))
    assert len({subset.granularities for subset in drawn}) > 3
    assert {subset.context for subset in drawn} == {True, False}

    questions = leave_last_out(data, "valid")
    windows = [questions.past(question) for question in range(len(questions))]
    counts = [np.bincount(data.types[window], minlength=5) for window in windows]
    batch = replace(window_batch(data, windows), counts=np.stack(counts))
    config = replace(config, interest_model=str(tmp_path / "model"), slab_rows=len(data.texts))
    variants = TransformerVariants(config, data.texts, tmp_path / "work")
    cells = list(variants.cells())
    assert len(cells) == 18
    model, known = passes[-1], np.ones(len(data.texts), dtype=np.bool_)
    seen = []
    for cell in cells:
        subset = Subset(cell.config.active, cell.context)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "users", partial(model.users, subset=subset))
            expected = ModelScorer(model, known, WindowPolicy()).vectors(
                questions, range(len(questions))
            )
        encoder = variants.make(cell.config)
        assert put_texts(encoder, data) == []
        seen.append(encoder.encode(batch).vectors)
        encoder.close()
        assert np.allclose(expected, seen[-1], atol=1e-5), cell
    assert all(not np.allclose(one, other) for one, other in combinations(seen, 2))


def test_training_beats_the_untrained_model(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    trained(world, SMALL, tmp_path / "trained", text_encoder)
    still = msgspec.structs.replace(SMALL, learning_rate=0.0, epochs=1)
    trained(world, still, tmp_path / "still", text_encoder)
    learned = ndcg(served(tmp_path / "trained", world, text_encoder), world)
    assert learned > 1.5 * ndcg(served(tmp_path / "still", world, text_encoder), world)
    text_encoder.use_salience(None)
    untrained = TransformerEncoder(EncoderConfig(slab_rows=128), text_encoder=text_encoder)
    put_texts(untrained, world)
    assert learned > 1.2 * ndcg(untrained, world)


def test_the_same_seed_gives_the_same_model(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    once, again, other = (
        trained(world, settings, tmp_path / name, text_encoder)
        for name, settings in (
            ("once", SHORT),
            ("again", SHORT),
            ("other", msgspec.structs.replace(SHORT, seed=1)),
        )
    )
    assert numbers(once) == numbers(again)
    assert numbers(once) != numbers(other)
    model = "interest.safetensors"
    assert (tmp_path / "once" / model).read_bytes() == (tmp_path / "again" / model).read_bytes()


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_resumed_run_has_the_numbers_of_one_that_went_through(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path, averaging: float
) -> None:
    settings = msgspec.structs.replace(SHORT, averaging=averaging, residual=True, dropout=0.3)
    through = trained(world, settings, tmp_path / "through", text_encoder)
    with pytest.raises(KeyboardInterrupt):
        trained(world, settings, tmp_path / "cut", text_encoder, Quiet(stop_after=2))
    assert not (tmp_path / "cut" / "interest.json").exists()
    journal = Quiet()
    resumed = trained(world, settings, tmp_path / "cut", text_encoder, journal)
    assert [report.epoch for report in journal.epochs] == [2, 3]
    assert numbers(resumed) == numbers(through)
    model = "interest.safetensors"
    assert (tmp_path / "cut" / model).read_bytes() == (tmp_path / "through" / model).read_bytes()


def test_a_checkpoint_of_another_run_is_refused(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SHORT, epochs=1)
    trained(world, settings, tmp_path, text_encoder)
    changed = msgspec.structs.replace(settings, dropout=0.0)
    with pytest.raises(TrainingDataInvalid, match="is of other settings or data"):
        trained(world, changed, tmp_path, text_encoder)


def test_training_ends_early_where_it_gets_no_better(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    still = msgspec.structs.replace(SMALL, learning_rate=0.0, epochs=9, patience=2)
    report = trained(world, still, tmp_path, text_encoder)
    assert (report["best_epoch"], report["epochs"]) == (1, 3)


def test_the_report_says_what_was_done(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SMALL, epochs=1)
    report = trained(world, settings, tmp_path, text_encoder)
    assert json.loads((tmp_path / "metrics.json").read_bytes()) == report
    kept = msgspec.json.decode((tmp_path / "training.json").read_bytes(), type=TrainingSettings)
    assert kept == settings
    data = report["data"]
    assert isinstance(data, dict)
    # Of 14 events a user, the last two are held out; the first is asked for by nobody.
    assert data["trained_on"] == 120 * 12 - repeated_last(world)
    assert data["fingerprint"] != data_fingerprint(clustered(seed=1), None)
    assert data["fingerprint"] == data_fingerprint(clustered(), None)


def repeated_last(data: Interactions) -> int:
    """Events at or behind the validation's answers, beyond two per user."""
    questions = leave_last_out(data, "valid")
    return 120 * 12 - int(questions.training.sum())


def numbers(report: dict[str, object]) -> list[tuple[float, object]]:
    history = report["history"]
    assert isinstance(history, list)
    return [(entry["loss"], entry["metrics"]) for entry in history]


def test_a_loss_that_is_no_number_ends_the_run(text_encoder: TextEncoder, tmp_path: Path) -> None:
    data = clustered(users=10)
    settings = msgspec.structs.replace(SMALL, loss="squared_error", target="value")
    enormous = np.where(np.arange(len(data)) % 2, 1e30, -1e30).astype(np.float32)
    with pytest.raises(TrainingDiverged, match=r"the loss is (inf|nan) in epoch 1: lower"):
        train(
            TrainingData(data, enormous), settings, EncoderConfig(), tmp_path, Quiet(),
            text_encoder=text_encoder,
        )  # fmt: skip


def test_mixed_precision_is_refused_without_a_gpu(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SMALL, precision="bf16")
    with pytest.raises(EncoderConfigInvalid, match="bf16 needs a GPU"):
        trained(world, settings, tmp_path, text_encoder)


def test_a_new_item_has_a_vector_by_its_text_and_a_known_one_its_own(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SMALL, epochs=2, residual=True)
    trained(world, settings, tmp_path, text_encoder)
    tensors = load_file(tmp_path / "interest.safetensors")
    assert float(tensors["residual.vectors"].abs().max()) > 0.01
    without = tmp_path / "without"
    shutil.copytree(tmp_path, without, ignore=shutil.ignore_patterns("training", "without"))
    tensors["residual.vectors"] = tensors["residual.vectors"] * 0
    save_file(tensors, without / "interest.safetensors")

    def vectors(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        encoder = served(folder, world, text_encoder)
        (known,) = encoder.item_vectors(np.array([0], dtype=np.int32))
        encoder.put_texts([(0, world.texts[0] + "!")])
        (new,) = encoder.item_vectors(np.array([0], dtype=np.int32))
        return known, new

    known, new = vectors(tmp_path)
    known_by_text, new_by_text = vectors(without)
    assert np.linalg.norm(new) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(new, new_by_text), "nothing of its own: it was never met"
    assert not np.allclose(known, known_by_text, atol=1e-2)


def test_masked_events_are_learned_from(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SMALL, pretrain_epochs=5, epochs=1)
    journal = Quiet()
    trained(world, settings, tmp_path, text_encoder, journal)
    masked = [report for report in journal.epochs if report.masked]
    assert [report.epoch for report in masked] == [0, 1, 2, 3, 4]
    assert masked[-1].loss < 0.7 * masked[0].loss
    assert all(report.metrics is None for report in masked)
    plain = Quiet()
    trained(world, msgspec.structs.replace(SMALL, epochs=1), tmp_path / "p", text_encoder, plain)
    assert journal.epochs[-1].loss < 0.9 * plain.epochs[0].loss


def test_a_run_cut_off_among_masked_events_goes_on(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SHORT, pretrain_epochs=2, epochs=2)
    through = trained(world, settings, tmp_path / "through", text_encoder)
    with pytest.raises(KeyboardInterrupt):
        trained(world, settings, tmp_path / "cut", text_encoder, Quiet(stop_after=1))
    assert numbers(trained(world, settings, tmp_path / "cut", text_encoder)) == numbers(through)


@pytest.mark.parametrize("shape", ["bert", "gpt2"])
@pytest.mark.parametrize("how", ["lora", "full"])
def test_a_text_model_in_training_is_what_is_served(tmp_path: Path, how: str, shape: str) -> None:
    source = (tiny_bert if shape == "bert" else tiny_gpt2)(tmp_path / "source")
    config = EncoderConfig(text_model=str(source), device="cpu")
    data = clustered(users=20, searches=True)
    settings = msgspec.structs.replace(
        SMALL,
        epochs=2,
        batch_windows=4,  # the first epoch may be the best one: it needs steps to move the model
        text=how,
        text_items=16,
        text_learning_rate=1e-2,
        lora_rank=2,
    )
    out = tmp_path / "out"
    before = TextEncoder(config)
    asked: list[np.ndarray] = []

    class Spy(ModelScorer):
        def vectors(self, questions: Questions, block: range) -> np.ndarray:
            asked.append(super().vectors(questions, block))
            return asked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ModelScorer", Spy)
        report = train(TrainingData(data), settings, config, out, Quiet(), text_encoder=before)
    best = report["best_epoch"]
    tuned = EncoderConfig(
        text_model=str(out / "text-model"), interest_model=str(out), slab_rows=200, device="cpu"
    )
    encoder = TransformerEncoder(tuned)
    put_texts(encoder, data)
    questions = leave_last_out(data, "valid")
    windows = [questions.past(question) for question in range(len(questions))]
    counts = [np.bincount(data.types[window], minlength=5) for window in windows]
    batch = replace(window_batch(data, windows), counts=np.stack(counts))
    assert np.allclose(asked[best - 1], encoder.encode(batch).vectors, atol=1e-4)
    after = TextEncoder(replace(tuned, interest_model=""))
    before.use_salience(None)
    told = ["heat heat story 1"]
    assert not np.allclose(before.encode(told).vectors, after.encode(told).vectors, atol=1e-3)
    with pytest.raises(InterestModelInvalid, match="was made for text model"):
        TransformerEncoder(replace(tuned, text_model=str(source)))


def test_salience_is_learned(
    world: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    plain = msgspec.structs.replace(SMALL, granularities=("word",), epochs=2)
    learning = msgspec.structs.replace(plain, learn_salience=True)
    trained(world, plain, tmp_path / "plain", text_encoder)
    trained(world, learning, tmp_path / "learned", text_encoder)
    at_start, learned = (
        load_file(tmp_path / name / "interest.safetensors")["salience"]
        for name in ("plain", "learned")
    )
    used = sorted({i for text in world.texts for i in text_encoder.token_ids(text)[1:-1]})
    unused = np.setdiff1d(np.arange(len(learned)), used)
    assert np.array_equal(at_start[unused], learned[unused])
    assert not np.allclose(at_start[used], learned[used], rtol=1e-2)
    assert bool((learned > 0).all())
