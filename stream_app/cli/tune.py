"""``tune``: a search for the settings of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stream_app.cli.context import Json, write_json
from stream_app.cli.train import Source, training_data, training_settings
from stream_app.errors import FixData, FixSettings

EXAMPLES = (
    "Examples: interest-stream tune --events events.jsonl --items items.jsonl --out study · "
    "interest-stream tune --dataset ml-1m --out study --trials 30 --epochs 8 "
    "--parameters learning_rate,dropout,layers"
)


def tune(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The study's folder; a second run goes on with it.")],
    events: Annotated[Path | None, typer.Option(help="JSON Lines of events.")] = None,
    items: Annotated[Path | None, typer.Option(help="JSON Lines of items.")] = None,
    from_kafka: Annotated[bool, typer.Option(help="Read the topics.")] = False,
    dataset: Annotated[Literal["ml-1m"] | None, typer.Option(help="MovieLens-1M.")] = None,
    skip_unknown_items: Annotated[
        bool, typer.Option(help="Leave out events of items that the catalogue lacks.")
    ] = False,
    value_field: Annotated[
        str, typer.Option(help="squared_error: this number of the events, instead of dwell.")
    ] = "",
    from_settings: Annotated[
        Path | None,
        typer.Option("--settings", help="A training.json for all that is not searched."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those before included.")] = 20,
    parameters: Annotated[
        str, typer.Option(help="What is searched, with commas; `all` for all that can be.")
    ] = "learning_rate,weight_decay,dropout,tower_dropout",
    epochs: Annotated[int | None, typer.Option(help="Of each trial, at most.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the search and of every trial.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.")] = None,
    as_json: Json = False,
) -> None:
    """Search for settings: train with different ones, cut the poor ones short, report.

    The folder then holds tuning.md, tuning.png and best.json, which `train --settings` takes.
    """
    settings = context.obj.settings(**({} if threads is None else {"encoder_threads": threads}))
    target = "value" if value_field else None
    chosen = {"epochs": epochs, "seed": seed, "target": target}
    base = training_settings(settings, from_settings, chosen)
    source = Source(events, items, from_kafka, dataset, value_field, skip_unknown_items)
    data = training_data(settings, base, source)
    try:
        from encoders.training.search import SPACE, search
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer,training]"
        ) from None
    from encoders.errors import TrainingDataInvalid
    from stream_app.cli.training_view import TrainingView

    names = tuple(SPACE) if parameters == "all" else tuple(parameters.split(","))
    with TrainingView(None, shown=not as_json) as view:
        try:
            found = search(
                data, base, settings.encoder_config(), out, view, trials=trials, parameters=names
            )
        except TrainingDataInvalid as error:
            raise FixData(str(error)) from None
    if as_json:
        write_json({"folder": str(out), **found})
    else:
        told = ", ".join(f"{name} {value}" for name, value in found["parameters"].items())
        print(f"trial {found['best_trial']} of {found['trials']}: NDCG@10 {found['ndcg@10']:.4f}")
        print(f"  {told}")
        print(f"its model is {found['model']}; the report {out / 'tuning.md'}")
