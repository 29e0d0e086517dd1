"""What a worker says of itself when it starts, in one block."""

from __future__ import annotations

import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from encoders.interface import EncoderInfo
from stream_app.settings import Settings

log = logging.getLogger("stream_app.worker")


def tell(settings: Settings, info: EncoderInfo, partitions: int) -> None:
    """Log the block. ``partitions``: of the events topic, whoever of the group has them."""
    facts = block(settings, info, partitions)
    width = max(map(len, facts))
    lines = [
        f"  {name:<{width}}  {_words(value)}" for name, value in facts.items() if name != "settings"
    ]
    lines += [f"  {name} = {_words(value)}" for name, value in facts["settings"].items()]
    log.info(
        "interest-stream starts\n%s",
        "\n".join(lines),
        extra={"fields": {"message": "interest-stream starts", "start": facts}},
    )


def block(settings: Settings, info: EncoderInfo, partitions: int) -> dict[str, Any]:
    """Return what there is to say, secrets masked."""
    return {
        "version": version("interest-stream"),
        "python": platform.python_version(),
        "pid": os.getpid(),
        "model": info.model_id,
        "dimensions": info.dimensions,
        "device": info.device,
        "backend": info.backend,
        "group": settings.app_id,
        "partitions": partitions,
        "settings": changed(settings),
    }


def changed(settings: Settings) -> dict[str, Any]:
    """Return the settings that differ from their defaults; of a secret, stars."""
    values = {
        name: (getattr(settings, name), field.default)
        for name, field in type(settings).model_fields.items()
    }
    return {
        name: str(value) if isinstance(value, Path | SecretStr) else value
        for name, (value, default) in values.items()
        if value != default
    }


def _words(value: object) -> str:
    return repr(value) if isinstance(value, str) and (not value or " " in value) else str(value)
