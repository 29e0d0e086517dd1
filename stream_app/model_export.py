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
from encoders.evaluation.interactions import Interactions
from state.window import WindowPolicy
from stream_app import evaluation_data, export_table, movielens, record_files
from stream_app.errors import FixSettings
from stream_app.settings import Settings

if TYPE_CHECKING:
    from encoders.shipping.export import ExportPlan

TABLE_FILE = "comparison.md"
JSON_FILE = "comparison.json"
TRAINED_TEXT_FOLDER = "text-model"
"""Where `interest-stream train` puts a text model that it has trained, too."""

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
    dataset: Literal["ml-1m"] | None = None
    """Instead of ``items``, and for a comparison of ``events``."""
    events: Path | None = None
    """With ``items``: what a comparison ranks."""
    page: Path | None = None
    """A page with marks between which a comparison writes its table."""
    rounds: int = 15
    """Of timing."""
    command: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, for people and for scripts."""

    table: str
    summary: dict[str, Any]


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
        trained = wanted.model / TRAINED_TEXT_FOLDER
        if wanted.text_model is None and trained.is_dir():
            text_model = str(trained)
        return replace(config, interest_model=str(wanted.model), text_model=text_model)
    if wanted.text_model is not None:
        raise FixSettings(
            f"{wanted.model} is a bundle, which has its text model: leave --text-model out"
        )
    return model_bundle.opened(replace(config, model=str(wanted.model), text_model=""))


def texts_of(wanted: Wanted) -> list[str]:
    """Return the texts of the catalogue, none where none is named.

    Raises:
        FixSettings: two catalogues are named.
        FixData: a line of the file is no item.
    """
    if wanted.dataset is not None:
        if wanted.items is not None or wanted.events is not None:
            raise FixSettings("give either --dataset or files of items and events, not both")
        return [item["text"] for item in movielens.items()]
    if wanted.items is None:
        return []
    # The last line of an item counts, as on the topic.
    return list({item.item_id: item.text for item, _ in record_files.items(wanted.items)}.values())


def compare(settings: Settings, wanted: Wanted, bars: Bars) -> Comparison:
    """Make a bundle of each kind in the folder ``out``, measure them in one run, and write tables.

    Raises:
        FixSettings, EncoderError, FixData: one line that says what to change.
    """
    try:
        from encoders.shipping.comparison import Request, versions
        from encoders.shipping.comparison import compare as measure
        from encoders.shipping.variants import make_variants
    except ImportError as error:
        raise _not_installed(error) from None
    texts = texts_of(wanted)
    if not texts:
        raise FixSettings("a comparison needs a catalogue: give --items or --dataset ml-1m")
    if wanted.page is not None:
        export_table.check(wanted.page)
    data = _interactions(settings, wanted)
    bundles = make_variants(plan_of(settings, wanted), texts, wanted.out, bars)
    request = Request(
        texts,
        data,
        WindowPolicy(settings.window_max_events, settings.window_max_age_ms),
        device=settings.device,
        threads=settings.encoder_threads,
        rounds=wanted.rounds,
        seed=wanted.seed,
    )
    lines = measure(bundles, request, bars)
    said = {
        "command": wanted.command,
        "seed": wanted.seed,
        "texts": len(set(texts)),
        "users_asked": lines[0].users_asked,
        "versions": versions(),
        "bundles": msgspec.to_builtins(lines),
    }
    for one in said["bundles"]:
        del one["manifest"]["files"]
    table = export_table.page(said, lines)
    encoded = msgspec.json.format(msgspec.json.encode(said), indent=2)
    (wanted.out / JSON_FILE).write_bytes(encoded + b"\n")
    (wanted.out / TABLE_FILE).write_text(table, encoding="utf-8")
    if wanted.page is not None:
        export_table.put_into(wanted.page, table)
    return Comparison(table, export_table.summary(lines))


def _interactions(settings: Settings, wanted: Wanted) -> Interactions | None:
    if wanted.dataset is not None:
        return evaluation_data.movielens_interactions()
    if wanted.events is None:
        return None
    if wanted.items is None:
        raise FixSettings("--events needs the --items they are about")
    return evaluation_data.file_interactions(wanted.events, wanted.items, settings)


def _not_installed(error: ImportError) -> FixSettings:
    return FixSettings(f"{error.name} is not installed: install interest-stream[transformer]")
