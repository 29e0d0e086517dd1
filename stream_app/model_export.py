"""Make bundles from models and a catalogue's file, and compare them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from encoders import model_bundle
from encoders.config import EncoderConfig
from stream_app import record_files
from stream_app.errors import FixSettings
from stream_app.settings import Settings

if TYPE_CHECKING:
    from encoders.shipping.export import ExportPlan

Bar = AbstractContextManager[Callable[[int, int | None], None]]
"""A progress bar; what is yielded is told how much is done, and of how much."""
Bars = Callable[[str], Bar]


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    model: Path
    out: Path
    text_model: str | None = None
    items: Path | None = None
    layers: str = ""
    int8: bool = False
    vectors: Literal["float32", "float16"] = "float32"
    distil_from: str = ""
    epochs: int = 10
    learning_rate: float = 2e-4
    seed: int = 0


def export(settings: Settings, wanted: Wanted, bars: Bars) -> dict[str, Any]:
    """Make the bundle and return what its manifest says, without the hashes of its files.

    Raises:
        FixSettings, EncoderError, FixData: one line that says what to change.
    """
    try:
        from encoders.shipping.export import export as make
    except ImportError as error:
        raise _not_installed(error) from None
    manifest = make(plan_of(settings, wanted), texts_of(wanted), wanted.out, bars)
    said: dict[str, Any] = msgspec.to_builtins(manifest)
    del said["files"]
    return said


def plan_of(settings: Settings, wanted: Wanted) -> ExportPlan:
    """Return the plan of the export that is asked for."""
    from encoders.shipping.distillation import DistillationPlan
    from encoders.shipping.export import ExportPlan

    return ExportPlan(
        source_of(settings, wanted),
        layers=wanted.layers,
        int8=wanted.int8,
        vectors=wanted.vectors,
        distil_from=wanted.distil_from,
        distillation=DistillationPlan(
            epochs=wanted.epochs, learning_rate=wanted.learning_rate, seed=wanted.seed
        ),
    )


def source_of(settings: Settings, wanted: Wanted) -> EncoderConfig:
    """Return the models to export: a folder's with the text model of the settings, or a bundle's.

    Raises:
        FixSettings: a bundle and a text model are both named.
    """
    if settings.encoder == "stub":
        raise FixSettings("the stub encoder has nothing to export: set encoder to transformer")
    config = replace(
        settings.encoder_config(), model="", interest_model="", cache_dir="", vectors="float32"
    )
    if not model_bundle.is_bundle(wanted.model):
        text_model = settings.text_model if wanted.text_model is None else wanted.text_model
        return replace(config, interest_model=str(wanted.model), text_model=text_model)
    if wanted.text_model is not None:
        raise FixSettings(
            f"{wanted.model} is a bundle, which has its text model: leave --text-model out"
        )
    return model_bundle.opened(replace(config, model=str(wanted.model), text_model=""))


def texts_of(wanted: Wanted) -> list[str]:
    """Return the texts of the items file, none where none is named."""
    if wanted.items is None:
        return []
    # The last line of an item counts, as on the topic.
    return list({item.item_id: item.text for item, _ in record_files.items(wanted.items)}.values())


def _not_installed(error: ImportError) -> FixSettings:
    return FixSettings(f"{error.name} is not installed: install interest-stream[transformer]")
