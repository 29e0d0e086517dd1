"""Every encoder there is, each made the same way."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import encoders
from encoders import EncoderConfig, InterestConfig, InterestEncoder
from encoders.stub import StubEncoder
from encoders.text_encoder import TextEncoder
from encoders.transformer import TransformerEncoder
from tests.conformance.models import tiny_bert, tiny_gpt2
from tests.conformance.trained import train_everything
from tests.conformance.windows import some_texts

SLAB_ROWS = 256
TEXTS = 64


@functools.cache
def _text_encoder(config: EncoderConfig) -> TextEncoder:
    """Loading a text model takes longer than all that a test does with it."""
    return TextEncoder(config)


@dataclass(frozen=True)
class Kind:
    """One encoder under test: how to build it, plain or with an interest configuration."""

    name: str
    config: EncoderConfig

    def build(self, **changed: object) -> InterestEncoder:
        return encoders.build(replace(self.config, **changed))  # type: ignore[arg-type]

    def with_interest(self, interest: InterestConfig) -> InterestEncoder:
        if self.config.kind == "stub":
            return StubEncoder(self.config, interest)
        return TransformerEncoder(self.config, interest, _text_encoder(self.config))

    @property
    def has_text_model(self) -> bool:
        return self.config.kind == "transformer"

    @property
    def is_trained(self) -> bool:
        return bool(self.config.interest_model)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"bert": tiny_bert(folder / "bert"), "gpt2": tiny_gpt2(folder / "gpt2")}


@pytest.fixture(scope="session")
def trained_folder(
    model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An interest model with everything a model can have, trained for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    config = EncoderConfig(text_model=str(model_folders["bert"]), device="cpu")
    return train_everything(config, _text_encoder(config), folder)


@pytest.fixture(scope="session", params=["stub", "bert", "gpt2", "minilm", "trained"])
def kind(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> Kind:
    name = request.param
    if name == "stub":
        return Kind(name, EncoderConfig(kind="stub", slab_rows=SLAB_ROWS))
    if name == "trained":
        config = EncoderConfig(
            text_model=str(model_folders["bert"]),
            interest_model=str(request.getfixturevalue("trained_folder")),
            slab_rows=SLAB_ROWS,
            device="cpu",
        )
        return Kind(name, config)
    text_model = str(model_folders.get(name, name))
    return Kind(name, EncoderConfig(text_model=text_model, slab_rows=SLAB_ROWS, device="cpu"))


@pytest.fixture(scope="session")
def filled(kind: Kind) -> Iterator[InterestEncoder]:
    """An encoder that holds ``some_texts(TEXTS)`` in its first rows. Tests write to rows behind."""
    encoder = kind.build()
    report = encoder.put_texts(list(enumerate(some_texts(TEXTS))))
    assert (report.encoded, report.failed) == (TEXTS, [])
    yield encoder
    encoder.close()
