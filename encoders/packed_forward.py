"""A forward pass of BERT-shaped models without padding: the tokens of all texts are one list.

Legend: N texts of a group, n tokens of each, S tokens of the pass, T dimensions, H heads.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from encoders.interface import Int64
from encoders.linears import Linear, LinearFactory, choose_linear, product_rows
from encoders.padded_forward import padded_hidden

logger = logging.getLogger(__name__)

_FIRST_POSITION_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
_SHAPES = ("bert", *_FIRST_POSITION_BEHIND_PADDING)
_TOLERANCE = 1e-3
"""Hidden states are of the order of 1; kernels differ by 1e-5, a wrong formula by far more."""


class _Layer:
    """One transformer layer, its weights taken from the model and laid out for the products."""

    def __init__(self, layer: Any, heads: int, make: LinearFactory) -> None:
        attention, output = layer.attention, layer.output
        projections = [getattr(attention.self, name) for name in ("query", "key", "value")]
        self._heads = heads
        self._qkv = make(
            torch.cat([projection.weight for projection in projections]).detach(),
            torch.cat([projection.bias for projection in projections]).detach(),
        )
        self._mix = _linear(attention.output.dense, make)
        self._mix_norm: nn.Module = attention.output.LayerNorm
        self._widen = _linear(layer.intermediate.dense, make)
        self._narrow = _linear(output.dense, make)
        self._narrow_norm: nn.Module = output.LayerNorm

    def __call__(self, x: torch.Tensor, groups: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """[S, T] -> [S, T]"""
        mixed = self._attend(self._qkv(x), groups)
        x = self._mix_norm(self._mix.plus(mixed, x))
        x = self._narrow_norm(self._narrow.plus(self._widen.gelu(x), x))
        return x

    def _attend(self, qkv: torch.Tensor, groups: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """[S, 3T] -> [S, T]; texts of one length attend together, so that no mask is needed."""
        width = qkv.shape[1] // 3
        # Zeros, not uninitialised: rows of no text must not become NaN in the next product.
        mixed = qkv.new_zeros(len(qkv), width)
        for start, count, length in groups:
            end = start + count * length
            heads = qkv[start:end].view(count, length, 3, self._heads, width // self._heads)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(query, key, value)
            mixed[start:end] = attended.transpose(1, 2).reshape(count * length, width)
        return mixed


class PackedForward:
    """No padding and no mask: a token's row is computed alike whatever lies around it."""

    def __init__(self, model: PreTrainedModel, device: torch.device, precision: str) -> None:
        config = model.config
        embeddings: Any = model.embeddings
        layers: Any = model.encoder.layer  # type: ignore[union-attr]
        first = layers[0].intermediate.dense
        make, name = choose_linear(device, first.weight.detach(), first.bias.detach())
        self._device = device
        self._autocast = precision == "bf16"
        self._words = embeddings.word_embeddings.weight.detach()
        shift = 0
        if config.model_type in _FIRST_POSITION_BEHIND_PADDING:
            shift = int(config.pad_token_id) + 1
        kinds = embeddings.token_type_embeddings.weight.detach()
        self._positions = embeddings.position_embeddings.weight.detach()[shift:] + kinds[0]
        self._norm = embeddings.LayerNorm
        self._layers = [_Layer(layer, config.num_attention_heads, make) for layer in layers]
        self.backend = f"packed-{name}-{precision}"

    def __call__(self, texts: Sequence[Int64]) -> torch.Tensor:
        """Return the last hidden states [S, T] float32 of texts sorted by length, flattened."""
        lengths = [len(text) for text in texts]
        tokens = sum(lengths)
        fill = np.zeros(product_rows(tokens) - tokens, dtype=np.int64)
        ids = self._to_device(np.concatenate([*texts, fill]))
        places = self._to_device(np.concatenate([*(np.arange(n) for n in lengths), fill]))
        groups = _equal_lengths(lengths)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            x = functional.embedding(ids, self._words)
            x = self._norm(x + functional.embedding(places, self._positions))
            for layer in self._layers:
                x = layer(x, groups)
        return x[:tokens].float()

    def _to_device(self, values: Int64) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def packed_or_none(
    model: PreTrainedModel, device: torch.device, precision: str
) -> PackedForward | None:
    """Return the packed pass of ``model``, or None where it is not BERT-shaped.

    Tried against the model's own pass first: an architecture that looks alike but computes
    otherwise, or a new transformers, costs speed and not correctness.
    """
    config = model.config
    if config.model_type not in _SHAPES or getattr(config, "is_decoder", False):
        return None
    if config.hidden_act != "gelu":
        return None
    try:
        packed = PackedForward(model, device, precision)
        difference = _difference(packed, model)
    except (AttributeError, RuntimeError, TypeError) as error:
        logger.warning("%s cannot be packed: %s", config.model_type, str(error).splitlines()[0])
        return None
    if difference > (_TOLERANCE if precision == "fp32" else 0.1):
        logger.warning("packed %s differs by %.1e and is not used", config.model_type, difference)
        return None
    return packed


def _difference(packed: PackedForward, model: PreTrainedModel) -> float:
    """Largest difference to the model's own padded pass, over texts of made-up tokens."""
    generator = np.random.default_rng(0)
    longest = min(20, model.config.max_position_embeddings - 2)
    first = (model.config.pad_token_id or 0) + 1
    texts = [
        generator.integers(first, model.config.vocab_size, size=length)
        for length in (3, 5, 5, longest)
    ]
    with torch.inference_mode():
        ours = packed(texts)
        theirs = torch.cat(padded_hidden(model, texts, model.config.pad_token_id or 0))
    return float((ours - theirs).abs().max())


def _equal_lengths(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first token, texts, tokens of each) per run of texts of one length."""
    groups = []
    start = 0
    for length, run in itertools.groupby(lengths):
        count = sum(1 for _ in run)
        groups.append((start, count, length))
        start += count * length
    return groups


def _linear(dense: nn.Linear, make: LinearFactory) -> Linear:
    return make(dense.weight.detach(), dense.bias.detach())
