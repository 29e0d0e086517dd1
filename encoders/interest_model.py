"""Granularities, context and fusion: pooled text vectors to one interest vector per user.

Legend: B users, A active granularities (weight above 0), T dimensions of the text model, D of the
vectors, F context features. ::

    P_i = W_i tanh(U_i x_i + b_i) + V_i x_i + c_i        C = W_c tanh(U_c f + b_c) + V_c f + d_c
    I = fusion(P, C), scaled to unit length

Tensors are named ``<granularity>.W`` and so on, ``context.W``, ``attention.q``, ``concat.F``,
``centre`` [3, T], ``salience`` [V]. One that is absent has its untrained value: W, U, b, c, d and
q zero, V the identity (the context's: zero), F the blocks of the weighted mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from encoders.config import InterestConfig
from encoders.errors import InterestModelInvalid
from encoders.interface import GRANULARITIES

_BLOCK_USERS = 64
"""Products of trained weights always have this many rows (the last block is filled up): a product
of another size may use another kernel, and the vector would depend on the batch."""

NEGLIGIBLE_NORM = 1e-5
"""Text vectors have length 1, so a shorter sum is rounding of the centring: it means nothing, and
scaled to unit length it would look as if it did."""


class _Perceptron(nn.Module):
    """W tanh(U x + b) + V x + c, where absent parts cost nothing."""

    W: nn.Parameter | None
    U: nn.Parameter | None
    V: nn.Parameter | None
    b: nn.Parameter | None
    c: nn.Parameter | None

    def __init__(self, tensors: Mapping[str, torch.Tensor], prefix: str, out_bias: str) -> None:
        super().__init__()
        for name in ("W", "U", "V", "b", out_bias):
            tensor = tensors.get(f"{prefix}.{name}")
            parameter = None if tensor is None else nn.Parameter(tensor.float().contiguous())
            self.register_parameter("c" if name == out_bias else name, parameter)
        if (self.W is None) != (self.U is None):
            raise InterestModelInvalid(f"{prefix}: W and U must both be there or both be absent")

    def bend(self, x: torch.Tensor) -> torch.Tensor | None:
        """The tanh branch; None where W is zero."""
        if self.W is None or self.U is None or not self.W.any():
            return None
        return functional.linear(torch.tanh(functional.linear(x, self.U, self.b)), self.W)


class Projection(_Perceptron):
    """P_i of one granularity: [B, T] to [B, D]."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], granularity: str) -> None:
        super().__init__(tensors, granularity, "c")

    @property
    def is_identity(self) -> bool:
        """Whether P_i = x_i, as it is before training."""
        straight = self.V is None or bool(
            self.V.shape[0] == self.V.shape[1]
            and torch.equal(self.V, torch.eye(len(self.V), device=self.V.device))
        )
        bent = self.W is not None and bool(self.W.any())
        shifted = self.c is not None and bool(self.c.any())
        return straight and not bent and not shifted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, D]."""
        projected = x if self.V is None else functional.linear(x, self.V)
        bent = self.bend(x)
        if bent is not None:
            projected = projected + bent
        return projected if self.c is None else projected + self.c


class Context(_Perceptron):
    """C of a user's features: [B, F] to [B, D]."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(tensors, "context", "d")

    @property
    def is_zero(self) -> bool:
        """Whether C = 0 for everybody, as it is before training."""
        return not any(
            tensor is not None and bool(tensor.any()) for tensor in (self.W, self.V, self.c)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, F] -> [B, D]."""
        parts = [] if self.V is None else [functional.linear(features, self.V)]
        bent = self.bend(features)
        if bent is not None:
            parts.append(bent)
        total = torch.stack(parts).sum(0) if parts else features.new_zeros(1)
        return total if self.c is None else total + self.c


class InterestModel(nn.Module):
    """Differentiable, so that training can hold one; serving goes through ``in_blocks``."""

    def __init__(
        self, config: InterestConfig, dimensions: int, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__()
        self.config = config
        self.dimensions = dimensions
        self.active = tuple(name for name in GRANULARITIES if config.weights.get(name, 0.0) > 0.0)
        self._projections = nn.ModuleDict({n: Projection(tensors, n) for n in GRANULARITIES})
        self.context = Context(tensors)
        query, joint = tensors.get("attention.q"), tensors.get("concat.F")
        self.query = None if query is None else nn.Parameter(query.float())
        self.joint = None if joint is None else nn.Parameter(joint.float())

    def projection(self, granularity: str) -> Projection:
        """Return P_i of a granularity, active or not."""
        projection = self._projections[granularity]
        assert isinstance(projection, Projection)
        return projection

    @property
    def is_untrained(self) -> bool:
        """Whether the vector is just the weighted sum of the x_i: then no product is needed."""
        learned = {"attention": self.query, "concat": self.joint}.get(self.config.fusion)
        return (
            all(self.projection(name).is_identity for name in self.active)
            and not self.uses_context
            and (learned is None or (self.config.fusion == "attention" and not learned.any()))
        )

    @property
    def uses_context(self) -> bool:
        """Whether features can change a vector."""
        return self.config.context and not self.context.is_zero

    def forward(self, x: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """[A, B, T] pooled and centred text vectors of the active granularities, [B, F] features
        -> [B, D] unit length."""
        projected = torch.stack(
            [self.projection(name)(x[place]) for place, name in enumerate(self.active)]
        )
        context = None
        if features is not None and self.uses_context:
            context = self.context(features)
        fused = self._fuse(projected, context)
        return unit_or_zero(fused)

    def _fuse(self, projected: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        weights = projected.new_tensor([self.config.weights[name] for name in self.active])
        if self.config.fusion == "concat" and self.joint is not None:
            rest = torch.zeros_like(projected[0]) if context is None else context
            rest = rest.expand_as(projected[0])
            return functional.linear(torch.cat([*projected, rest], dim=1), self.joint)
        if self.config.fusion == "attention":
            shares = torch.softmax(weights.log() + self._affinity(projected, context), dim=1)
            fused = (shares.T[:, :, None] * projected).sum(0)
        else:
            if self.config.fusion != "add":
                weights = weights / weights.sum()
            fused = (weights[:, None, None] * projected).sum(0)
        return fused if context is None else fused + context

    def _affinity(self, projected: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        """[B, G] query . P_i / sqrt(D); the query is learned, and moved by the context."""
        query = projected.new_zeros(projected.shape[-1]) if self.query is None else self.query
        if context is not None:
            query = query + context
        return (projected * query).sum(-1).T / math.sqrt(projected.shape[-1])


def in_blocks(
    module: nn.Module, x: torch.Tensor, features: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply ``module`` to [..., B, T] in products of one fixed size, so no user's bits depend on
    the batch. B is the last dimension but one; ``features`` is [B, F]."""
    results = []
    for start in range(0, x.shape[-2], _BLOCK_USERS):
        block = x[..., start : start + _BLOCK_USERS, :]
        users = block.shape[-2]
        missing = _BLOCK_USERS - users
        arguments = [functional.pad(block, (0, 0, 0, missing))]
        if isinstance(module, InterestModel):
            part = None if features is None else features[start : start + _BLOCK_USERS]
            arguments.append(
                None if part is None else functional.pad(part, (0, 0, 0, missing))  # type: ignore[arg-type]
            )
        results.append(module(*arguments)[:users])
    return torch.cat(results)


def unit_or_zero(vectors: torch.Tensor) -> torch.Tensor:
    """Scale the last dimension to length 1; what is negligible becomes exactly zero."""
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(norms > NEGLIGIBLE_NORM, vectors / norms, torch.zeros_like(vectors))
