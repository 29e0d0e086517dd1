"""A whole run: data and settings in, a folder that serves out.

::

    folder/interest.json, interest.safetensors      the model
    folder/training.json                            the settings of this run
    folder/metrics.json                             what came of it
    folder/training/                                checkpoint, logs for TensorBoard
    folder/text-model/                              the text model, where it was trained, too
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from encoders import interest_folder
from encoders.config import EncoderConfig, InterestConfig
from encoders.errors import EncoderConfigInvalid, TrainingDataInvalid
from encoders.evaluation.interactions import NO_ITEM, Interactions
from encoders.evaluation.splits import Part, Questions, leave_last_out
from encoders.interest_model import InterestModel
from encoders.interface import MEDIA, Float32
from encoders.model_files import save_text_model
from encoders.text_encoder import TextEncoder
from encoders.training.causal_pass import CausalPass, FrozenTexts, Texts
from encoders.training.checkpoints import Progress
from encoders.training.context_moments import context_moments
from encoders.training.events import TrainingEvents, training_events
from encoders.training.fingerprint import data_fingerprint, run_fingerprint
from encoders.training.settings import TrainingSettings
from encoders.training.start import start_config, start_tensors
from encoders.training.texts import TextTable, media_table, text_table
from encoders.training.trainer import Journal, Task, Trainer

SETTINGS_FILE = "training.json"
METRICS_FILE = "metrics.json"
WORK_FOLDER = "training"
TEXT_MODEL_FOLDER = "text-model"


@dataclass(frozen=True)
class TrainingData:
    """Events in time order, and the numbers that go with them where the loss wants some."""

    interactions: Interactions
    values: Float32 | None = None
    """[E] NaN where an event has none."""


def train(
    data: TrainingData,
    settings: TrainingSettings,
    encoder_config: EncoderConfig,
    folder: Path,
    journal: Journal,
    *,
    resume: bool = True,
    text_encoder: TextEncoder | None = None,
) -> dict[str, Any]:
    """Train a model on ``data``, write ``folder``, and return what ``metrics.json`` says.

    With ``resume`` a run of the same settings and data that was cut off in this folder goes on
    where its last epoch ended; its ``seconds`` then hold those epochs' own, too.

    Raises:
        TrainingDataInvalid, TrainingDiverged, EncoderConfigInvalid: with one line that says why.
    """
    started = time.perf_counter()
    text = text_encoder or TextEncoder(encoder_config)
    if settings.precision == "bf16" and text.device.type == "cpu":
        raise EncoderConfigInvalid("precision bf16 needs a GPU: use fp32 on a CPU")
    # Sends float32 products to oneDNN, twice as fast on a CPU with the same error; TF32 on a GPU.
    torch.set_float32_matmul_precision("medium")
    interactions = _until(data, settings)
    questions = questions_of(interactions.interactions, settings)
    table = text_table(
        interactions.interactions.texts,
        len(interactions.interactions.item_ids),
        text,
        encoder_config,
        journal.bar("texts"),
    )
    events = training_events(
        interactions.interactions, questions.training, table.known, settings, interactions.values
    )
    config = start_config(settings, text.content_id, _media_dimensions(interactions, settings))
    model = start_model(settings, config, table, interactions.interactions, events, text)
    data_id = data_fingerprint(interactions.interactions, interactions.values)
    task = Task(
        settings=settings,
        events=events,
        popularity=events.popularity(len(interactions.interactions.item_ids)),
        questions=questions,
        known=table.known,
        fingerprint=run_fingerprint(settings, data_id, text.content_id),
        folder=folder / WORK_FOLDER,
    )
    trainer = Trainer(task, model, journal)
    if resume:
        trainer.resume()
    earlier_s = sum(report.seconds for report in trainer.progress.history)
    progress = trainer.run()
    _save_model(folder, config, model, text)
    (folder / SETTINGS_FILE).write_bytes(_json(settings))
    report = _report(progress, data_id, interactions.interactions, events, table, text)
    report["seconds"] = round(earlier_s + time.perf_counter() - started, 1)
    (folder / METRICS_FILE).write_bytes(_json(report))
    return report


def questions_of(data: Interactions, settings: TrainingSettings) -> Questions:
    """Return the validation's questions; their ``training`` is what may be learned from.

    Raises:
        TrainingDataInvalid: events of items that no catalogue line names, or too few events.
    """
    unknown = (data.items == NO_ITEM) & (data.rows < 0)
    if unknown.any():
        raise TrainingDataInvalid(
            f"{int(unknown.sum())} of {len(data)} events name an item that is not in the "
            "catalogue and bring no text: add the items, or leave those events out"
        )
    part: Part = "valid" if settings.hold_out == "two" else "test"
    try:
        return leave_last_out(
            data, part, users=settings.validation_users or None, seed=settings.split_seed
        )
    except ValueError as error:
        raise TrainingDataInvalid(f"nothing to validate with: {error}") from None


def start_model(
    settings: TrainingSettings,
    config: InterestConfig,
    table: TextTable,
    data: Interactions,
    events: TrainingEvents,
    text: TextEncoder,
) -> CausalPass:
    """Return the untrained model of ``settings``, ready for the loop."""
    moments = context_moments(events, settings, config.session_gap_ms) if config.context else None
    media = None
    if config.media_dimensions:
        assert data.media is not None
        media, of_media = media_table(data.media, len(data.texts))
        table = replace(table, tensors=table.tensors | of_media)
    tensors = start_tensors(settings, config, table, data.texts, events, moments)
    model = InterestModel(
        config,
        settings.dimensions,
        tensors,
        settings.dropout,
        settings.residual_dropout,
        settings.tower_dropout,
    ).to(text.device)
    assert model.tower is not None
    texts = _texts(settings, table, data, model.tower.width, text)
    return CausalPass(model, texts, model.tower.places(data.texts), text.device, media)


def _media_dimensions(data: TrainingData, settings: TrainingSettings) -> int:
    """M, where media take part.

    Raises:
        TrainingDataInvalid: they should, and no item brings any.
    """
    if MEDIA not in settings.granularities:
        return 0
    if data.interactions.media is None:
        raise TrainingDataInvalid(
            "no item of the catalogue brings a media_vector, which the granularity media needs"
        )
    return int(data.interactions.media.shape[1])


def _texts(
    settings: TrainingSettings, table: TextTable, data: Interactions, width: int, text: TextEncoder
) -> Texts:
    """Where the vectors of texts come from in this run."""
    levels = table.levels.to(text.device)
    if settings.learn_salience:
        from encoders.training.learned_salience import LearnedSalience

        return LearnedSalience(levels, width, table.tensors, data.texts, text)
    if settings.text != "frozen":
        from encoders.training.learned_texts import TunedTextModel

        tokens, _, _ = text.tokenise(data.texts)
        return TunedTextModel(levels, width, table.tensors, tokens, text, settings)
    return FrozenTexts(levels, width)


def _save_model(folder: Path, config: InterestConfig, model: CausalPass, text: TextEncoder) -> None:
    """Write the interest model and, where it was trained, the text model it goes with."""
    from encoders.training.learned_salience import LearnedSalience
    from encoders.training.learned_texts import TunedTextModel

    tensors = model.model.tensors()
    if isinstance(model.texts, LearnedSalience):
        tensors["salience"] = model.texts.salience()
    if isinstance(model.texts, TunedTextModel):
        own = folder / TEXT_MODEL_FOLDER
        save_text_model(own, text.folder, model.texts.merged())
        config = msgspec.structs.replace(config, text_model_id=text.content_id_of(own))
    interest_folder.save(folder, config, tensors)


def _until(data: TrainingData, settings: TrainingSettings) -> TrainingData:
    """The data without what lies at or after ``until_ms``."""
    if not settings.until_ms:
        return data
    stop = int(np.searchsorted(data.interactions.times_ms, settings.until_ms))
    columns = ("users", "items", "rows", "times_ms", "types", "dwell_ms")
    cut = {name: getattr(data.interactions, name)[:stop] for name in columns}
    if not stop:
        raise TrainingDataInvalid(f"all events are at or after until_ms ({settings.until_ms})")
    values = None if data.values is None else data.values[:stop]
    return TrainingData(replace(data.interactions, **cut), values)


def _report(
    progress: Progress,
    data_id: str,
    data: Interactions,
    events: TrainingEvents,
    table: TextTable,
    text: TextEncoder,
) -> dict[str, Any]:
    best = next((e for e in progress.history if e.epoch == progress.best_epoch), None)
    return {
        "validation": None if best is None else best.metrics,
        "best_epoch": progress.best_epoch + 1,
        "epochs": progress.epochs_done,
        "steps": sum(report.steps for report in progress.history),
        "history": [msgspec.to_builtins(report) for report in progress.history],
        "data": {
            "fingerprint": data_id,
            "events": len(data),
            "trained_on": len(events),
            "asked": int(events.is_target.sum()),
            "users": len(data.user_ids),
            "items": len(data.item_ids),
            "texts_failed": len(table.failed),
        },
        "text_model_id": text.content_id,
        "device": str(text.device),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }


def _versions() -> Mapping[str, str]:
    names = ("interest-stream", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
