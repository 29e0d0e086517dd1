"""Training on a small world: it must learn, repeat itself, go on where it stopped, and serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from encoders import EncoderConfig
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.ranking import ask
from encoders.evaluation.splits import leave_last_out
from encoders.text_encoder import TextEncoder
from encoders.training.checkpoints import EpochReport
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from encoders.transformer import TransformerEncoder
from state.window import WindowPolicy
from tests.conformance.models import tiny_bert
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
