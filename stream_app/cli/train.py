"""``train``: an interest model from events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream_app.cli.context import Json, write_json
from stream_app.errors import FixData, FixSettings

if TYPE_CHECKING:
    from encoders.training.run import TrainingData
    from encoders.training.settings import TrainingSettings
    from stream_app.settings import Settings

EXAMPLES = (
    "Examples: interest-stream train --events events.jsonl --items items.jsonl --out model · "
    "interest-stream train --from-kafka --out model --residual · "
    "interest-stream train --dataset ml-1m --out model --epochs 24 --threads 2"
)

_DATA = "Data"
_MODEL = "Model"
_LOSS = "Loss"
_RUN = "Run"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder to write; the worker serves it.")],
    events: Annotated[Path | None, _option(_DATA, "JSON Lines of events, with time_ms.")] = None,
    items: Annotated[Path | None, _option(_DATA, "JSON Lines of items.")] = None,
    from_kafka: Annotated[
        bool, _option(_DATA, "Read both topics, from their beginning to their present end.")
    ] = False,
    dataset: Annotated[Literal["ml-1m"] | None, _option(_DATA, "MovieLens-1M.")] = None,
    skip_unknown_items: Annotated[
        bool, _option(_DATA, "Leave out events of items that the catalogue lacks.")
    ] = False,
    hold_out: Annotated[
        Literal["two", "one"] | None,
        _option(_DATA, "Of each user's new items: the last two, or the last, are not learned."),
    ] = None,
    until_ms: Annotated[int | None, _option(_DATA, "Nothing from this time on.")] = None,
    repeats: Annotated[
        bool | None, _option(_DATA, "Learn items that a user has met before, too.")
    ] = None,
    granularities: Annotated[
        str | None, _option(_MODEL, "Some of word,sentence,paragraph,document,media. [document]")
    ] = None,
    fusion: Annotated[
        Literal["add", "weighted_mean", "attention", "concat"] | None,
        _option(_MODEL, "How they become one vector."),
    ] = None,
    every_subset: Annotated[
        bool | None, _option(_MODEL, "Learn each granularity alone and each left out, too.")
    ] = None,
    dimensions: Annotated[int | None, _option(_MODEL, "Of the vectors. [128]")] = None,
    layers: Annotated[int | None, _option(_MODEL, "Of the reader; 0: none. [2]")] = None,
    heads: Annotated[int | None, _option(_MODEL, "Of its attention. [2]")] = None,
    with_context: Annotated[
        bool | None, _option(_MODEL, "Types, rhythm, dwell.", "--context/--no-context")
    ] = None,
    residual: Annotated[
        bool | None, _option(_MODEL, "A learned vector per known item beside its text.")
    ] = None,
    interests: Annotated[int | None, _option(_MODEL, "More vectors per user. [0]")] = None,
    learn_salience: Annotated[bool | None, _option(_MODEL, "Learn what words weigh.")] = None,
    text: Annotated[
        Literal["frozen", "lora", "full"] | None,
        _option(_MODEL, "How much of the text model is trained. [frozen]"),
    ] = None,
    loss: Annotated[
        Literal["cross_entropy", "binary", "squared_error"] | None,
        _option(_LOSS, "Which item is next, whether it is bought, or a number."),
    ] = None,
    negatives: Annotated[
        Literal["all", "uniform", "in_batch"] | None,
        _option(_LOSS, "What cross_entropy compares with. [all]"),
    ] = None,
    negative_count: Annotated[int | None, _option(_LOSS, "Of uniform ones. [1024]")] = None,
    value_field: Annotated[
        str, _option(_LOSS, "squared_error: this number of the events, instead of dwell.")
    ] = "",
    epochs: Annotated[int | None, _option(_RUN, "At most. [20]")] = None,
    pretrain_epochs: Annotated[
        int | None, _option(_RUN, "Of masked events, before the rest. [0]")
    ] = None,
    batch: Annotated[int | None, _option(_RUN, "Windows per batch. [128]")] = None,
    accumulation: Annotated[int | None, _option(_RUN, "Batches per step. [1]")] = None,
    learning_rate: Annotated[float | None, _option(_RUN, "At its highest. [0.001]")] = None,
    text_learning_rate: Annotated[
        float | None,
        _option(_RUN, "Of the text model, with --text. [lora 0.0005, full 0.00005]"),
    ] = None,
    dropout: Annotated[float | None, _option(_RUN, "[0.2]")] = None,
    patience: Annotated[
        int | None, _option(_RUN, "Evaluations without a better NDCG@10 before it ends. [4]")
    ] = None,
    seed: Annotated[int | None, _option(_RUN, "Of everything random. [0]")] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, _option(_RUN, "bf16 needs a GPU. [fp32]")
    ] = None,
    threads: Annotated[int | None, _option(_RUN, "Of torch. [as encoder_threads]", min=1)] = None,
    from_settings: Annotated[
        Path | None, _option(_RUN, "A training.json; what is said here changes it.", "--settings")
    ] = None,
    resume: Annotated[
        bool, _option(_RUN, "Go on from the folder's checkpoint, if it is of this run.")
    ] = True,
    board: Annotated[bool, _option(_RUN, "Write TensorBoard files.")] = True,
    as_json: Json = False,
) -> None:
    """Train an interest model on what users did.

    Data come from two files, from the topics, or are MovieLens-1M. The folder then holds the model,
    training.json and metrics.json; a run that was cut off goes on when the command is repeated.
    """
    settings = context.obj.settings(**({} if threads is None else {"encoder_threads": threads}))
    chosen = {
        "granularities": tuple(granularities.split(",")) if granularities else None,
        "fusion": fusion, "every_subset": every_subset, "dimensions": dimensions,
        "layers": layers, "heads": heads,
        "context": with_context, "residual": residual, "interests": interests,
        "learn_salience": learn_salience, "text": text, "loss": loss, "negatives": negatives,
        "negative_count": negative_count, "target": "value" if value_field else None,
        "epochs": epochs, "pretrain_epochs": pretrain_epochs, "batch_windows": batch,
        "accumulation": accumulation, "learning_rate": learning_rate, "dropout": dropout,
        "patience": patience, "seed": seed, "precision": precision, "hold_out": hold_out,
        "until_ms": until_ms, "repeats": repeats, "text_learning_rate": text_learning_rate,
    }  # fmt: skip
    run = training_settings(settings, from_settings, chosen)
    data = training_data(
        settings,
        run,
        Source(events, items, from_kafka, dataset, value_field, skip_unknown_items),
    )
    report = run_training(settings, run, data, out, resume=resume, board=board, shown=not as_json)
    if as_json:
        write_json({"folder": str(out), **report})
    else:
        best = report["validation"] or {}
        told = ", ".join(f"{name} {value:.4f}" for name, value in best.items())
        print(f"made {out} in {report['seconds']:.0f} s; validation: {told}")
        print(f"use it with {_variables(out, run)}")


def _variables(out: Path, run: TrainingSettings) -> str:
    """What a worker needs to serve the model."""
    from stream_app.named_model import TEXT_MODEL_FOLDER

    needed = [f"INTEREST_INTEREST_MODEL={out}"]
    if run.text != "frozen":
        needed.append(f"INTEREST_TEXT_MODEL={out / TEXT_MODEL_FOLDER}")
    return " ".join(needed)


class Source:
    """Where the events are."""

    def __init__(
        self,
        events: Path | None,
        items: Path | None,
        from_kafka: bool,
        dataset: str | None,
        value_field: str,
        skip_unknown_items: bool,
    ) -> None:
        """Raises FixSettings unless exactly one place is named."""
        named = [bool(events or items), from_kafka, dataset is not None]
        if sum(named) != 1 or (events is None) != (items is None):
            raise FixSettings(
                "say where the data are: --events FILE and --items FILE, or --from-kafka, "
                "or --dataset ml-1m"
            )
        self.events, self.items, self.from_kafka = events, items, from_kafka
        self.value_field, self.skip_unknown_items = value_field, skip_unknown_items


def training_settings(
    settings: Settings, file: Path | None, chosen: dict[str, Any]
) -> TrainingSettings:
    """Return the settings of a run: the file's or the defaults, changed by what was chosen.

    Raises:
        FixSettings: the file cannot be read, or training is not installed.
    """
    import msgspec

    from encoders.training.settings import TrainingSettings

    if settings.encoder == "stub":
        raise FixSettings("the stub encoder has nothing to train: set encoder to transformer")
    base = TrainingSettings(
        window_events=settings.window_max_events, window_age_ms=settings.window_max_age_ms
    )
    if file is not None:
        try:
            base = msgspec.json.decode(file.read_bytes(), type=TrainingSettings)
        except (OSError, msgspec.MsgspecError) as error:
            raise FixSettings(f"{file}: {error}") from None
    return msgspec.structs.replace(base, **{k: v for k, v in chosen.items() if v is not None})


def training_data(settings: Settings, run: TrainingSettings, source: Source) -> TrainingData:
    """Return the data of a run, in time order."""
    from stream_app import training_data as read

    wanted = read.Wanted(source.value_field, source.skip_unknown_items, run.split_seed)
    if source.from_kafka:
        return read.topic_data(settings, wanted)
    if source.events is not None and source.items is not None:
        return read.file_data(source.events, source.items, settings, wanted)
    return read.movielens_data(wanted)


def run_training(
    settings: Settings,
    run: TrainingSettings,
    data: TrainingData,
    out: Path,
    *,
    resume: bool,
    board: bool,
    shown: bool,
) -> dict[str, Any]:
    """Train, telling a person how it goes, and return the report.

    Raises:
        FixSettings: torch is not installed.
        FixData: the data cannot be trained on.
    """
    try:
        from encoders.training.run import WORK_FOLDER
        from encoders.training.run import train as train_model
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer]"
        ) from None
    from encoders.errors import TrainingDataInvalid
    from stream_app.cli.training_view import TrainingView

    with TrainingView(out / WORK_FOLDER / "logs" if board else None, shown=shown) as view:
        try:
            return train_model(data, run, settings.encoder_config(), out, view, resume=resume)
        except TrainingDataInvalid as error:
            raise FixData(str(error)) from None
