"""Weights of a text model in a quarter of the size: one signed byte each, one scale per channel.

Legend: O output channels of a layer (or rows of an embedding), I inputs. ::

    scale_o = max_i |w_oi| / 127        q_oi = round(w_oi / scale_o)        w_oi ~ q_oi * scale_o

Symmetric, so that zero stays zero. Only the file is int8: weights are fp32 again once loaded, for
the products that were measured fastest here are oneDNN's fp32 ones (``encoders.linears``). Vectors
of one dimension (biases, norms) stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

INT8_FILE = "int8.safetensors"
"""A name of its own: read as ordinary weights it would be nonsense."""
_SCALE = ".int8_scale"
_LARGEST = 127.0


def quantise(weight: torch.Tensor, channel: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 [O, I] and the scales, [O, 1] for channels along dimension 0, [1, O] for 1.

    No weight moves by more than half its channel's scale; a channel of zeros stays so.
    """
    scale = weight.abs().amax(dim=1 - channel, keepdim=True).float() / _LARGEST
    steps = torch.where(scale > 0.0, weight / scale, torch.zeros_like(weight))
    return steps.round().to(torch.int8), scale


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights of ``model`` into ``folder``, but for the pooler, which is not used."""
    transposed = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in model.state_dict().items():
        if name.startswith("pooler."):
            continue
        if weight.ndim == 2 and weight.is_floating_point():
            # GPT-2 keeps its weights as [I, O], the others as [O, I].
            tensors[name], scale = quantise(weight, channel=1 if name in transposed else 0)
            tensors[name + _SCALE] = scale
        else:
            tensors[name] = weight.clone()
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / INT8_FILE)


def load_or_none(folder: Path) -> dict[str, torch.Tensor] | None:
    """Return the fp32 weights of ``folder`` by name, None where they are not stored as int8."""
    path = folder / INT8_FILE
    if not path.is_file():
        return None
    stored = load_file(path)
    return {
        name: tensor if tensor.dtype != torch.int8 else tensor.float() * stored[name + _SCALE]
        for name, tensor in stored.items()
        if not name.endswith(_SCALE)
    }
