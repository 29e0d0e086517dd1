"""What an item tower bends with is said in its folder, and never guessed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from encoders import EncoderConfig, InterestModelInvalid
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import put_texts
from encoders.interface import Float32
from encoders.text_encoder import TextEncoder
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from encoders.transformer import TransformerEncoder
from tests.conformance.models import tiny_bert
from tests.conformance.trained import Silent
from tests.harness.clusters import clustered


@pytest.fixture(scope="module")
def data() -> Interactions:
    return clustered(users=12)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tiny_bert(tmp_path_factory.mktemp("bert"))
    return TextEncoder(EncoderConfig(text_model=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def trained(
    data: Interactions, text_encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    settings = TrainingSettings(
        dimensions=16, layers=1, tower_hidden=16, epochs=1, batch_windows=16
    )
    train(TrainingData(data), settings, EncoderConfig(), folder, Silent(),
          text_encoder=text_encoder)  # fmt: skip
    return folder


def changed(trained: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the folder whose interest.json says something else."""
    shutil.copytree(trained, out)
    config = json.loads((out / "interest.json").read_bytes())
    change(config)
    (out / "interest.json").write_text(json.dumps(config))
    return out


def as_of_an_early_version(config: dict[str, Any]) -> None:
    for name in ("tower_activation", "window_max_events", "window_max_age_ms"):
        del config[name]


def item_vectors(
    folder: Path, data: Interactions, text_encoder: TextEncoder
) -> tuple[Float32, Float32]:
    """[N, D] of the items and [N, 3, T] of their texts."""
    config = EncoderConfig(interest_model=str(folder), slab_rows=len(data.texts))
    encoder = TransformerEncoder(config, text_encoder=text_encoder)
    put_texts(encoder, data)
    rows = np.arange(len(data.item_ids), dtype=np.int32)
    return encoder.item_vectors(rows), encoder.text_vectors(rows)


def test_training_says_gelu(trained: Path) -> None:
    config = json.loads((trained / "interest.json").read_bytes())
    assert config["tower_activation"] == "gelu"


@pytest.mark.parametrize(
    ("activation", "bend"), [("gelu", functional.gelu), ("tanh", torch.tanh)], ids=["gelu", "tanh"]
)
def test_the_tower_bends_with_what_is_said(
    trained: Path,
    data: Interactions,
    text_encoder: TextEncoder,
    tmp_path: Path,
    activation: str,
    bend: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    folder = changed(
        trained, tmp_path / "said", lambda config: config.update(tower_activation=activation)
    )
    found, levels = item_vectors(folder, data, text_encoder)
    t = load_file(folder / "interest.safetensors")
    x = torch.einsum("nlt,lut->nlu", torch.from_numpy(levels) - t["centre"], t["whiten"])
    x = x.flatten(1)
    raised = bend(x @ t["tower.U"].T + t["tower.b"]) @ t["tower.W"].T
    raised = raised + x @ t["tower.V"].T + t["tower.c"]
    wanted = functional.normalize(
        functional.layer_norm(raised, (16,), t["tower.gain"], t["tower.shift"])
    )
    assert np.allclose(found, wanted.numpy(), atol=1e-5)


def test_one_that_says_its_windows_but_no_activation_is_of_the_time_of_gelu(
    trained: Path, data: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    folder = changed(trained, tmp_path / "between", lambda config: config.pop("tower_activation"))
    assert np.array_equal(
        item_vectors(folder, data, text_encoder)[0], item_vectors(trained, data, text_encoder)[0]
    )


def test_an_early_one_that_does_not_say_is_refused(
    trained: Path, data: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    folder = changed(trained, tmp_path / "early", as_of_an_early_version)
    with pytest.raises(InterestModelInvalid, match="bent with tanh or with gelu") as caught:
        item_vectors(folder, data, text_encoder)
    assert "\n" not in str(caught.value)
    said = changed(folder, tmp_path / "told", lambda config: config.update(tower_activation="tanh"))
    assert not np.allclose(
        item_vectors(said, data, text_encoder)[0],
        item_vectors(trained, data, text_encoder)[0],
        atol=1e-2,
    )
