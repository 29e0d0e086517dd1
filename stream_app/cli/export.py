"""``export``: a bundle to serve, and the table of what smaller ones cost."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json
from stream_app.cli.progress import progress_bar

EXAMPLES = (
    "Examples: interest-stream export --model model --out bundle · … --crop-layers 3 --distil-from "
    "minilm --items items.jsonl --int8 --out small · … --compare --items items.jsonl --out variants"
)


class Dataset(StrEnum):
    """Data that a package brings."""

    ML_1M = "ml-1m"


class VectorFormat(StrEnum):
    """How vectors are kept and published."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


def export(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Folder of an interest model, or a bundle.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    text_model: Annotated[
        str | None, typer.Option(help="Folder or hub id [default: the setting, or the bundle's].")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="JSON Lines with item_id and text, to crop and to compare.")
    ] = None,
    crop_layers: Annotated[
        str, typer.Option(help="Layers of the text model to keep: N, the first, or every:k.")
    ] = "",
    int8: Annotated[bool, typer.Option("--int8", help="Weights in a quarter of the size.")] = False,
    vectors: Annotated[
        VectorFormat, typer.Option(help="Float16 vectors take half the space.")
    ] = VectorFormat.FLOAT32,
    distil_from: Annotated[
        str, typer.Option(help="Text model that teaches the cropped one: folder, hub id, minilm.")
    ] = "",
    distil_epochs: Annotated[int, typer.Option(min=1, help="Times it sees each text.")] = 10,
    learning_rate: Annotated[float, typer.Option(help="Of the distillation, at most.")] = 2e-4,
    seed: Annotated[
        int, typer.Option(help="Of the distillation, and of which texts are timed.")
    ] = 0,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Make one bundle of each kind in the folder, and a table of them."
        ),
    ] = False,
    dataset: Annotated[
        Dataset | None, typer.Option(help="MovieLens-1M, instead of --items and --events.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help="With --compare: JSON Lines of events, to rank for.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="With --compare: write the table into this page, too.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="With --compare: of timing.")] = 15,
    as_json: Json = False,
) -> None:
    """Make a bundle, one folder that `worker --model` serves, as it is or smaller."""
    from stream_app import model_export

    plan = model_export.Wanted(
        model=model, out=out, text_model=text_model, items=items, layers=crop_layers, int8=int8,
        vectors=vectors.value, distil_from=distil_from, epochs=distil_epochs,
        learning_rate=learning_rate, seed=seed, dataset=dataset.value if dataset else None,
        events=events, page=page, rounds=rounds,
        command=shlex.join(["interest-stream", *sys.argv[1:]]),
    )  # fmt: skip
    settings = context.obj.settings()

    def bar(what: str) -> model_export.Bar:
        return progress_bar(what, None, shown=not as_json)

    if compare:
        comparison = model_export.compare(settings, plan, bar)
        if not as_json:
            print(comparison.table)
            print(f"wrote {out / model_export.TABLE_FILE} and {model_export.JSON_FILE} beside it")
        write_json(comparison.summary)
        return
    made = model_export.export(settings, plan, bar)
    if as_json:
        write_json({"folder": str(out), **made})
    else:
        print(f"made {out}, model_id {made['model_id']}; `interest-stream worker --model {out}`")
