"""A model that a command names by its folder, instead of the one that the settings name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from encoders import model_bundle
from encoders.config import EncoderConfig

TEXT_MODEL_FOLDER = "text-model"
"""Where `interest-stream train` puts a text model that it has trained, too."""


def with_model(config: EncoderConfig, folder: Path | None) -> EncoderConfig:
    """Return ``config`` with the bundle or the interest model in ``folder`` and with the text
    model it brings: a bundle's own, or one that was trained along; else that of ``config``.

    None: no interest model, whichever ``config`` names.
    """
    if folder is None:
        return replace(config, model="", interest_model="")
    if model_bundle.is_bundle(folder):
        return replace(config, model=str(folder), text_model="", interest_model="")
    own = folder / TEXT_MODEL_FOLDER
    text_model = str(own) if own.is_dir() else config.text_model
    return replace(config, model="", text_model=text_model, interest_model=str(folder))
