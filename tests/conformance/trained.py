"""A trained interest model for the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from encoders import GRANULARITIES, EncoderConfig
from encoders.text_encoder import TextEncoder
from encoders.training.checkpoints import EpochReport
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from tests.harness.clusters import clustered


class Silent:
    """A journal that is told everything and says nothing."""

    def bar(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: None

    def step(self, number: int, loss: float, rate: float) -> None:
        pass

    def epoch(self, report: EpochReport) -> None:
        pass


def train_everything(config: EncoderConfig, text_encoder: TextEncoder, folder: Path) -> Path:
    """Train every part a model can have for two epochs; return its folder."""
    settings = TrainingSettings(
        dimensions=32,
        granularities=GRANULARITIES,
        fusion="attention",
        residual=True,
        interests=3,
        tower_hidden=32,
        epochs=2,
        batch_windows=16,
        learning_rate=1e-2,
        warm_up_steps=2,
    )
    data = TrainingData(clustered(users=40, searches=True))
    train(data, settings, config, folder, Silent(), text_encoder=text_encoder)
    text_encoder.use_salience(None)  # others build untrained models on the same text model
    return folder
