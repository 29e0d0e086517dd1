"""Mixed precision: the trainer's own steps under autocast, on a CPU and, where there is one, a GPU.

A run of ``train`` refuses bf16 on a CPU, for it is slower there; the trainer itself takes either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
import torch

from encoders import EncoderConfig
from encoders.evaluation.interactions import Interactions
from encoders.text_encoder import TextEncoder
from encoders.training.events import training_events
from encoders.training.run import questions_of, start_model
from encoders.training.settings import TrainingSettings
from encoders.training.start import start_config
from encoders.training.texts import text_table
from encoders.training.trainer import Task, Trainer
from tests.conformance.models import tiny_bert
from tests.harness.clusters import clustered
from tests.unit.test_training import ALL, SHORT, Quiet, trained

PLAIN = msgspec.structs.replace(SHORT, epochs=2, dropout=0.0, tower_dropout=0.0)
EVERYTHING = [
    {},
    {"granularities": ALL, "fusion": "attention", "residual": True, "interests": 2},
    {"granularities": ("word", "document"), "fusion": "concat", "negatives": "in_batch"},
    {"loss": "binary", "layers": 0},
    {"negatives": "uniform", "negative_count": 20, "pretrain_epochs": 1},
]


def text_encoder(folder: Path, device: Literal["cpu", "cuda"]) -> TextEncoder:
    return TextEncoder(EncoderConfig(text_model=str(tiny_bert(folder / "bert")), device=device))


def losses(
    data: Interactions, settings: TrainingSettings, text: TextEncoder, folder: Path
) -> list[float]:
    """Return the losses of the steps, trained as ``train`` does on the text encoder's device."""
    table = text_table(data.texts, len(data.item_ids), text, EncoderConfig())
    questions = questions_of(data, settings)
    events = training_events(data, questions.training, table.known, settings)
    config = start_config(settings, text.content_id)
    model = start_model(settings, config, table, data, events, text)
    popularity = events.popularity(len(data.item_ids))
    task = Task(settings, events, popularity, questions, table.known, "", folder)
    journal = Quiet()
    Trainer(task, model, journal).run()
    return journal.losses


@pytest.mark.parametrize("changed", EVERYTHING, ids=str)
def test_steps_in_bf16_are_nearly_those_in_fp32(tmp_path: Path, changed: dict[str, object]) -> None:
    text = text_encoder(tmp_path, "cpu")
    settings = msgspec.structs.replace(PLAIN, **changed)
    mixed = msgspec.structs.replace(settings, precision="bf16")
    data = clustered(users=30, searches=True)
    plain = losses(data, settings, text, tmp_path / "plain")
    found = losses(data, mixed, text, tmp_path / "mixed")
    assert found != plain, "autocast took no part"
    assert np.allclose(found, plain, rtol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_run_in_bf16_on_a_gpu_is_nearly_one_in_fp32(tmp_path: Path) -> None:
    text = text_encoder(tmp_path, "cuda")
    settings = msgspec.structs.replace(PLAIN, granularities=ALL, fusion="attention", residual=True)
    mixed = msgspec.structs.replace(settings, precision="bf16")
    data = clustered(searches=True)
    plain, found = Quiet(), Quiet()
    report = trained(data, settings, tmp_path / "plain", text, plain)
    assert report["device"] == "cuda"
    trained(data, mixed, tmp_path / "mixed", text, found)
    assert found.losses != plain.losses, "autocast took no part"
    assert np.allclose(found.losses, plain.losses, rtol=0.05)
    for one, other in zip(plain.epochs, found.epochs, strict=True):
        assert one.metrics is not None
        assert other.metrics is not None
        assert other.metrics["ndcg@10"] == pytest.approx(one.metrics["ndcg@10"], abs=0.05)
