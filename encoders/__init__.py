"""Texts and windows to vectors: ``build(config)`` gives the encoder a worker runs.

Importing this package needs numpy only; torch and transformers come with the transformer.
"""

from __future__ import annotations

from encoders import model_bundle, model_files
from encoders.config import EncoderConfig, InterestConfig
from encoders.errors import (
    BundleInvalid,
    EncoderConfigInvalid,
    EncoderError,
    InterestModelInvalid,
    ModelNotFound,
    ModelNotSafe,
    ModelNotSupported,
    TrainingDataInvalid,
    TrainingDiverged,
)
from encoders.interface import (
    GRANULARITIES,
    EncoderInfo,
    InterestEncoder,
    Interests,
    TextReport,
    WindowBatch,
)

__all__ = [
    "GRANULARITIES",
    "BundleInvalid",
    "EncoderConfig",
    "EncoderConfigInvalid",
    "EncoderError",
    "EncoderInfo",
    "InterestConfig",
    "InterestEncoder",
    "InterestModelInvalid",
    "Interests",
    "ModelNotFound",
    "ModelNotSafe",
    "ModelNotSupported",
    "TextReport",
    "TrainingDataInvalid",
    "TrainingDiverged",
    "WindowBatch",
    "build",
]


def build(config: EncoderConfig) -> InterestEncoder:
    """Return the encoder that ``config`` describes, models loaded and ready.

    Raises:
        EncoderError: with one line that says what to fix.
    """
    if config.kind == "stub":
        if config.model:
            raise EncoderConfigInvalid("the stub encoder takes no model: leave it empty")
        from encoders.stub import StubEncoder

        return StubEncoder(config)
    config = model_bundle.opened(config)
    model_files.locate(config.text_model)  # a folder that will not do is refused before torch loads
    from encoders.transformer import TransformerEncoder

    return TransformerEncoder(config)
