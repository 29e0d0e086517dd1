"""Make bundles from models and a catalogue's file, and compare them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from encoders import model_bundle, model_files
from encoders.config import EncoderConfig, InterestConfig
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.plan import Plan
from encoders.evaluation.results import Protocol
from state.window import WindowPolicy
from stream_app import evaluation_data, export_table, movielens, record_files
from stream_app.errors import FixSettings
from stream_app.evaluation_run import misfits
from stream_app.named_model import with_model
from stream_app.settings import Settings

if TYPE_CHECKING:
    from encoders.shipping.export import ExportPlan

TABLE_FILE = "comparison.md"
JSON_FILE = "comparison.json"

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
    """Return the models to export: an interest model with the text model that is named, or that
    was trained along, or that of the settings; or those of a bundle.

    Raises:
        FixSettings: a bundle and a text model are both named.
    """
    if settings.encoder == "stub":
        raise FixSettings("the stub encoder has nothing to export: set encoder to transformer")
    config = with_model(settings.encoder_config(), wanted.model)
    config = replace(config, cache_dir="", vectors="float32")
    if wanted.text_model is None:
        return model_bundle.opened(config)
    if config.model:
        raise FixSettings(
            f"{wanted.model} is a bundle, which has its text model: leave --text-model out"
        )
    return replace(config, text_model=wanted.text_model)


def texts_of(wanted: Wanted) -> list[str]:
    """Return the texts of the catalogue, none where none is named.

    Raises:
        FixSettings: two catalogues are named.
        FixData: a line of the file is no item.
    """
    _check_one_catalogue(wanted)
    if wanted.dataset is not None:
        return [item["text"] for item in movielens.items()]
    if wanted.items is None:
        return []
    # The last line of an item counts, as on the topic.
    return list({item.item_id: item.text for item, _ in record_files.items(wanted.items)}.values())


def _check_one_catalogue(wanted: Wanted) -> None:
    if wanted.dataset is not None and (wanted.items is not None or wanted.events is not None):
        raise FixSettings("give either --dataset or files of items and events, not both")


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
    if wanted.page is not None:
        export_table.check(wanted.page)
    data = _interactions(settings, wanted)
    texts = data.texts[: len(data.item_ids)]
    policy = settings.window_policy()
    record = model_files.read_json(wanted.model / "training.json") or {}
    split_seed = record.get("split_seed", 0)
    bundles = make_variants(plan_of(settings, wanted), texts, wanted.out, bars)
    request = Request(
        data,
        policy,
        device=settings.device,
        threads=settings.encoder_threads,
        rounds=wanted.rounds,
        seed=wanted.seed,
        split_seed=split_seed,
    )
    lines = measure(bundles, request, bars)
    said = {
        "command": wanted.command,
        "seed": wanted.seed,
        "split_seed": split_seed,
        "texts": len(set(texts)),
        "users_asked": lines[0].users_asked,
        "versions": versions(),
        "notes": _notes(wanted.model, policy, split_seed) if len(data) else [],
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


def _notes(model: Path, policy: WindowPolicy, split_seed: int) -> list[str]:
    """In what the training does not fit the ranking, which is that of all bundles."""
    trained = msgspec.json.decode((model / "interest.json").read_bytes(), type=InterestConfig)
    asked = Protocol("leave_last_out", "", "random", 0, 0, 0, [])
    return misfits(model, trained, policy, Plan(split_seed), [asked], in_one_order=True)


def _interactions(settings: Settings, wanted: Wanted) -> Interactions:
    """The catalogue, with the events that are to be ranked, if any are."""
    _check_one_catalogue(wanted)
    if wanted.dataset is not None:
        return evaluation_data.movielens_interactions()
    if wanted.items is None:
        raise FixSettings("a comparison needs a catalogue: give --items or --dataset ml-1m")
    if wanted.events is None:
        return evaluation_data.file_catalogue(wanted.items)
    return evaluation_data.file_interactions(wanted.events, wanted.items, settings)


def _not_installed(error: ImportError) -> FixSettings:
    return FixSettings(f"{error.name} is not installed: install interest-stream[transformer]")
