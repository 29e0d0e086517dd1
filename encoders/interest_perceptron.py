"""W bend(U x + b) + V x + c: the one form that granularities, context and item tower share.

The bend is tanh, as in the paper; the item tower's is GELU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from encoders.dropout import Dropout
from encoders.errors import InterestModelInvalid


class Perceptron(nn.Module):
    """Absent parts cost nothing: W, U, b and c are zero then, V the identity."""

    W: nn.Parameter | None
    U: nn.Parameter | None
    V: nn.Parameter | None
    b: nn.Parameter | None
    c: nn.Parameter | None

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        prefix: str,
        out_bias: str,
        dropout: float = 0.0,
        bend: Callable[[torch.Tensor], torch.Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self._bend = bend
        self.dropout = Dropout(dropout)
        for name in ("W", "U", "V", "b", out_bias):
            tensor = tensors.get(f"{prefix}.{name}")
            parameter = None if tensor is None else nn.Parameter(tensor.float().contiguous())
            self.register_parameter("c" if name == out_bias else name, parameter)
        if (self.W is None) != (self.U is None):
            raise InterestModelInvalid(f"{prefix}: W and U must both be there or both be absent")

    def bent(self, x: torch.Tensor) -> torch.Tensor | None:
        """The bent branch; None where W is zero and will stay so."""
        if self.W is None or self.U is None or not (self.training or self.W.any()):
            return None
        bent = self.dropout(self._bend(functional.linear(x, self.U, self.b)))
        return functional.linear(bent, self.W)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, D]."""
        projected = x if self.V is None else functional.linear(x, self.V)
        bent = self.bent(x)
        if bent is not None:
            projected = projected + bent
        return projected if self.c is None else projected + self.c

    def tensors(self, prefix: str, out_bias: str) -> dict[str, torch.Tensor]:
        """Return the tensors by the names they have in the folder."""
        return {
            f"{prefix}.{out_bias if name == 'c' else name}": parameter.detach()
            for name, parameter in self.named_parameters()
        }
