"""What can be wrong with a model. Every message is one line: expected, found, what to do."""

from __future__ import annotations


class EncoderError(Exception):
    """Base of all that this package raises on purpose."""


class EncoderConfigInvalid(EncoderError):
    """A setting of the encoder makes no sense: fix the settings."""


class ModelNotFound(EncoderError):
    """No model at the given folder or hub id: fix the settings or install the model."""


class ModelNotSafe(EncoderError):
    """The model is not in safetensors form, or wants its own code run: choose another one."""


class ModelNotSupported(EncoderError):
    """The model loads but is neither BERT- nor GPT-2-shaped: choose another one."""


class BundleInvalid(EncoderError):
    """A bundle is incomplete, damaged or of another version: export or copy it again."""


class InterestModelInvalid(EncoderError):
    """The interest model folder is incomplete, unreadable or made for another text model."""


class TrainingDataInvalid(EncoderError):
    """The events cannot be trained on: fix the data."""


class TrainingDiverged(EncoderError):
    """The loss is not a number any more: try again with other settings."""
