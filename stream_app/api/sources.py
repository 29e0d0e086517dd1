"""What the API reads a worker through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from encoders.interface import EncoderInfo
from stream_app.burials import Burials
from stream_app.delivery import BatchApp
from stream_app.holding import Holding
from stream_app.parts import Parts
from stream_app.settings import Settings
from stream_app.status import Counts


@dataclass(frozen=True)
class Sources:
    """A worker's parts; those that need the model come with :meth:`joined`'s."""

    settings: Settings
    app: BatchApp
    holding: Holding
    burials: Burials
    counts: Counts
    joined: Callable[[], tuple[Parts, EncoderInfo] | None]
    """Parts and model, ``None`` before they are known."""
    state: Callable[[], str]
    describe: Callable[[], dict[str, Any]]
    """What status.json says."""
