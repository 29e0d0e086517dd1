"""Poison among texts, and models that cannot be had: what is said, and who is spared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import encoders
from encoders import (
    EncoderConfig,
    EncoderConfigInvalid,
    EncoderError,
    ModelNotFound,
    ModelNotSafe,
    ModelNotSupported,
)
from encoders.interface import Int64
from encoders.text_encoder import TextEncoder
from encoders.transformer import TransformerEncoder
from tests.conformance.models import tiny_bert
from tests.conformance.windows import one_window, some_texts


class Poisoned:
    """A forward pass that goes wrong over texts holding one token."""

    def __init__(self, encoder: TextEncoder, word: str, raises: bool) -> None:
        self._forward = encoder.forward
        self._poison = encoder.token_ids(word)[1]
        self._raises = raises

    def __call__(self, texts: Sequence[Int64]) -> torch.Tensor:
        hidden = self._forward(texts)
        bad = [self._poison in text for text in texts]
        if self._raises and any(bad):
            raise RuntimeError("out of something\nwith a second line")
        parts = hidden.split([len(text) for text in texts])
        return torch.cat(
            [part * float("nan") if b else part for part, b in zip(parts, bad, strict=True)]
        )


@pytest.mark.parametrize(
    ("raises", "reason"),
    [(False, "text model: its vector is not finite"), (True, "text model: out of something")],
)
def test_a_bad_text_fails_alone(tmp_path: Path, raises: bool, reason: str) -> None:
    config = EncoderConfig(text_model=str(tiny_bert(tmp_path)), slab_rows=64)
    text_encoder = TextEncoder(config)
    encoder = TransformerEncoder(config, text_encoder=text_encoder)
    texts = [text.replace("fox", "cat") for text in some_texts(20)]
    encoder.put_texts(list(enumerate(texts)))
    before = encoder.item_vectors(np.arange(20, dtype=np.int32))
    text_encoder.forward = Poisoned(text_encoder, "fox", raises)

    fresh = [(row + 30, text) for row, text in enumerate(some_texts(20, seed=9))]
    poisoned = [row for row, text in fresh if "fox" in text]
    fresh += [(3, "the fox takes a row that was in use"), (55, "quick")]
    report = encoder.put_texts(fresh)

    assert sorted(report.failed) == sorted((row, reason) for row in [3, *poisoned])
    assert report.encoded == len(fresh) - len(report.failed)
    vectors = encoder.item_vectors(np.arange(56, dtype=np.int32))
    assert not vectors[[3, *poisoned]].any()
    assert vectors[55].any()
    assert np.array_equal(np.delete(vectors[:20], 3, axis=0), np.delete(before, 3, axis=0))
    assert not encoder.encode(one_window([3])).vectors.any()


def folder_with(tmp_path: Path, **files: str) -> str:
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_text(content)
    return str(tmp_path)


BERT = json.dumps({"model_type": "bert"})


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ({}, ModelNotFound, "has no config.json"),
        ({"config__json": BERT}, ModelNotFound, "holds no .safetensors weights"),
        (
            {"config__json": BERT, "pytorch_model__bin": ""},
            ModelNotSafe,
            "holds pytorch_model.bin but no .safetensors",
        ),
        ({"config__json": "{", "model__safetensors": ""}, ModelNotFound, "is not JSON"),
        (
            {"config__json": "{}", "model__safetensors": "", "vocab__txt": "a"},
            ModelNotFound,
            "no model_type",
        ),
        (
            {
                "config__json": '{"model_type": "own", "auto_map": {"AutoModel": "m.M"}}',
                "model__safetensors": "",
                "vocab__txt": "a",
            },
            ModelNotSafe,
            "wants its own code run",
        ),
        ({"config__json": BERT, "model__safetensors": ""}, ModelNotFound, "holds no tokenizer"),
        (
            {"config__json": BERT, "model__safetensors": "x", "vocab__txt": "a"},
            ModelNotSupported,
            "header",
        ),
    ],
)
def test_a_folder_that_will_not_do(
    tmp_path: Path, files: dict[str, str], error: type[EncoderError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        encoders.build(EncoderConfig(text_model=folder_with(tmp_path, **files)))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound, match=r"no model folder at \./nowhere"):
        encoders.build(EncoderConfig(text_model="./nowhere"))


def test_a_hub_id_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: object, **kwargs: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelNotFound, match=r"'some/model' is no folder here .*: no network$"):
        encoders.build(EncoderConfig(text_model="some/model"))


def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelNotSupported, match="has no fast tokenizer"):
        encoders.build(EncoderConfig(text_model=str(folder)))


def test_weights_that_are_not_all_there(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotSupported, match=r"lack encoder\.layer\.1\.output\.dense\.weight"):
        encoders.build(EncoderConfig(text_model=str(folder)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threads": 0}, "threads must be at least 1, is 0"),
        ({"token_budget": -1}, "token_budget must be 0 or more, is -1"),
        ({"kind": "oracle"}, "kind must be transformer or stub"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
        ({"stub_dimensions": 1}, "stub_dimensions must be at least 2"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(EncoderConfigInvalid, match=said):
        EncoderConfig(**wrong)  # type: ignore[arg-type]


def test_what_a_cpu_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EncoderConfigInvalid, match="no usable GPU here"):
        encoders.build(EncoderConfig(device="cuda"))
    with pytest.raises(EncoderConfigInvalid, match="bf16 needs a GPU"):
        encoders.build(EncoderConfig(device="cpu", precision="bf16"))


def test_the_stub_takes_no_interest_model() -> None:
    with pytest.raises(EncoderConfigInvalid, match="the stub encoder takes no interest_model"):
        encoders.build(EncoderConfig(kind="stub", interest_model="some-folder"))
