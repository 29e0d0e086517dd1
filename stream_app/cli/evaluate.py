"""``evaluate``: how good the vectors are, in tables, plots and JSON."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.cli.progress import progress_bars
from stream_app.errors import FixSettings

if TYPE_CHECKING:
    from encoders.evaluation.interactions import Interactions
    from stream_app.settings import Settings

EXAMPLES = "Example: interest-stream evaluate --dataset ml-1m --users 500"


class Dataset(StrEnum):
    """Data that a package brings."""

    ML_1M = "ml-1m"


class Protocol(StrEnum):
    """How questions are made."""

    LEAVE_LAST_OUT = "leave-last-out"
    PREQUENTIAL = "prequential"
    BOTH = "both"


class Order(StrEnum):
    """Of events of the same time."""

    RANDOM = "random"
    FILE = "file"


def evaluate(
    context: typer.Context,
    dataset: Annotated[Dataset | None, typer.Option(help="MovieLens-1M, from its package.")] = None,
    events: Annotated[Path | None, typer.Option(help="JSON Lines of events.")] = None,
    items: Annotated[
        Path | None, typer.Option(help="JSON Lines with item_id, text and, if known, genres.")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="JSON Lines with user_id and groups, such as region, to be compared."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an interest model or a bundle [default: the untrained one of this "
            "catalogue, whatever the settings name]"
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of another model of the same text model, to be compared with it."
        ),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Ask a sample of so many users [default: all]")
    ] = None,
    protocol: Annotated[Protocol, typer.Option(help="How questions are made.")] = Protocol.BOTH,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    order: Annotated[Order, typer.Option(help="Of events of the same time.")] = Order.RANDOM,
    grid: Annotated[bool, typer.Option(help="Compare all configurations of the model.")] = True,
    out: Annotated[
        Path, typer.Option(help="The page; .json, .html and assets/ go beside it.")
    ] = Path("docs/evaluation.md"),
) -> None:
    """Evaluate a model and all baselines on the same questions; the last line is JSON."""
    from encoders.evaluation.plan import Plan
    from stream_app import evaluation_run

    settings = context.obj.settings()
    for folder in (model, *(also or ())):
        if folder is not None and not folder.is_dir():
            raise FixSettings(f"{folder} is no folder; `interest-stream train` makes a model")
    if also and (not grid or protocol is Protocol.PREQUENTIAL):
        raise FixSettings(
            "--also is compared in the grid of leave-last-out, which --no-grid and "
            "--protocol prequential leave out"
        )
    data = _data(settings, dataset, events, items, groups)
    named = (Protocol.LEAVE_LAST_OUT, Protocol.PREQUENTIAL)
    request = evaluation_run.Request(
        model=model,
        protocols=[p.value for p in named] if protocol is Protocol.BOTH else [protocol.value],
        plan=Plan(seed=seed, users=users, order=order.value, grid=grid),
        command=_command(settings),
        dataset=dataset.value if dataset else f"{events} and {items}",
        also=also or (),
    )
    with progress_bars(shown=True) as bar:
        report = evaluation_run.evaluate(settings, data, request, bar)
    for path in evaluation_run.write(report, out):
        print(f"wrote {path}")
    print(evaluation_run.summary(report))


def _command(settings: Settings) -> str:
    """The line that was given, and before it the settings of the windows, wherever they stood."""
    from stream_app import start_block

    said = {k: v for k, v in start_block.changed(settings).items() if k.startswith("window_")}
    variables = [f"INTEREST_{name.upper()}={value}" for name, value in said.items()]
    return shlex.join([*variables, "interest-stream", *sys.argv[1:]])


def _data(
    settings: Settings,
    dataset: Dataset | None,
    events: Path | None,
    items: Path | None,
    groups: Path | None,
) -> Interactions:
    from stream_app import evaluation_data

    if dataset is not None and (events or items):
        raise FixSettings("give either --dataset or --events with --items, not both")
    if dataset is not None and groups is not None:
        raise FixSettings("--groups goes with --events and --items; MovieLens-1M has its own")
    if dataset is not None:
        return evaluation_data.movielens_interactions()
    if events is None or items is None:
        raise FixSettings("nothing to evaluate on: give --dataset ml-1m, or --events and --items")
    return evaluation_data.file_interactions(events, items, settings, groups)
