"""Make the folder of an untrained interest model from the texts of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_app.errors import FixData, FixSettings
from stream_app.settings import Settings


def init_from_texts(settings: Settings, texts: Sequence[str], folder: Path) -> None:
    """Write ``folder``: the mean text vector as its centre, word salience from the texts.

    Raises:
        FixData: there is no text.
        FixSettings: the encoder is the stub, or torch and transformers are not installed.
        EncoderError: the text model cannot be used.
    """
    if not texts:
        raise FixData("an interest model needs texts: the items hold none")
    if settings.encoder == "stub":
        raise FixSettings("the stub encoder has no interest model: set encoder to transformer")
    try:
        from encoders.interest_init import init_interest_model
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer]"
        ) from None
    init_interest_model(folder, texts, settings.encoder_config())
