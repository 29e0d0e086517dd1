"""Make the folder of an untrained interest model from the texts of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from stream_app.errors import FixSettings
from stream_app.settings import Settings


def init_from_items(
    settings: Settings, lines: Iterable[bytes], folder: Path, progress: Callable[[int, int], None]
) -> None:
    """Write ``folder``: the mean text vector as its centre, word salience from the texts.

    ``lines`` are JSON objects with item_id and text; ``progress`` is told the texts done and all.

    Raises:
        FixSettings: the encoder is the stub, or torch and transformers are not installed.
        EncoderError: the text model cannot be used, or there is no text.
    """
    if settings.encoder == "stub":
        raise FixSettings("the stub encoder has no interest model: set encoder to transformer")
    try:
        from encoders.interest_init import init_interest_model
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer]"
        ) from None
    init_interest_model(lines, settings.encoder_config(), folder, progress)
