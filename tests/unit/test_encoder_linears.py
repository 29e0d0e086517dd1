"""When oneDNN's private operators are used, and that torch's public ones take over."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders import EncoderConfig, linears
from encoders.linears import OneDnnLinear, PublicLinear, choose_linear
from encoders.text_encoder import TextEncoder
from tests.conformance.models import tiny_bert
from tests.conformance.windows import some_texts

CPU = torch.device("cpu")
WEIGHT, BIAS = torch.randn(64, 32), torch.randn(64)


class Wrong(OneDnnLinear):
    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return super().plus(x, residual) + 0.01


class Unsteady(OneDnnLinear):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) + (1e-6 if len(x) == 61 else 0.0)


class Gone(OneDnnLinear):
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        raise AttributeError("no attribute '_reorder_linear_weight'")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Wrong, "results differ by 1.0e-02"),
        (Unsteady, "the bits of a row change when 61 rows"),
        (Gone, "its operators are not as expected: no attribute '_reorder_linear_weight'"),
    ],
)
def test_operators_that_will_not_do_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: type[OneDnnLinear],
    said: str,
) -> None:
    monkeypatch.setattr(linears, "OneDnnLinear", broken)
    with caplog.at_level(logging.WARNING):
        assert choose_linear(CPU, WEIGHT, BIAS) == (PublicLinear, "torch")
    assert said in caplog.text


@pytest.mark.parametrize(("ratio", "name"), [(0.5, "torch"), (0.8, "onednn"), (2.0, "onednn")])
def test_the_slower_product_is_not_used(
    monkeypatch: pytest.MonkeyPatch, ratio: float, name: str
) -> None:
    monkeypatch.setattr(linears, "_speed_ratio", lambda: ratio)
    assert choose_linear(CPU, WEIGHT, BIAS)[1] == name


def test_without_onednn_the_vectors_are_the_same_and_repeatable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = EncoderConfig(text_model=str(tiny_bert(tmp_path)))
    usual = TextEncoder(config)
    monkeypatch.setattr(linears, "_speed_ratio", lambda: 0.1)
    public = TextEncoder(config)
    assert (usual.backend, public.backend) == ("packed-onednn-fp32", "packed-torch-fp32")
    assert usual.cache_namespace() != public.cache_namespace()
    texts = some_texts(40)
    whole = public.encode(texts).vectors
    assert np.allclose(whole, usual.encode(texts).vectors, atol=1e-5)
    for place, text in enumerate(texts):
        assert np.array_equal(public.encode([text]).vectors[0], whole[place])
