"""Granularities, context and fusion: pooled text vectors to one interest vector per user.

Legend: B users, A active granularities (weight above 0), T dimensions of the text model, D of the
vectors, F context features. ::

    P_i = W_i tanh(U_i x_i + b_i) + V_i x_i + c_i        C = W_c tanh(U_c f + b_c) + V_c f + d_c
    I = fusion(P, C), scaled to unit length

Tensors are named ``<granularity>.W`` and so on, ``context.W``, ``attention.q``, ``concat.F``,
``centre`` [3, T], ``salience`` [V], ``whiten`` [3, T, T], ``context.mean`` and ``context.scale``
[F], ``context.Q`` [D, T]. One that is absent has its untrained value: W, U, b, c, d, q and Q zero,
V the identity (the context's: zero), F the blocks of the weighted mean, whitening the identity.
``media.centre`` [M] and ``media.whiten`` [M, M] prepare what items bring beside their text
(``media_rows``). ``tower.*`` and ``residual.*`` are those of ``item_tower``, ``reader.*`` of
``sequence_reader``; where there is a reader, the x_i of paragraph and document is what it read,
[B, D].
``exp(score.scale) cosine + score.shift`` is the loss's logit or number of a user and an item.
``several.F`` [K, D, D] turns the fused vector into K more, one per interest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from encoders.config import InterestConfig
from encoders.context_features import FEATURES
from encoders.interest_perceptron import Perceptron
from encoders.interface import MEDIA
from encoders.item_tower import ItemTower
from encoders.media_rows import MediaPerceptron
from encoders.sequence_reader import SequenceReader
from encoders.tokens import LEVELS, TEXT

_BLOCK_USERS = 64
"""Products of trained weights always have this many rows (the last block is filled up): a product
of another size may use another kernel, and the vector would depend on the batch."""

_FIXED = ("centre", "salience", "media.centre", "media.whiten")

NEGLIGIBLE_NORM = 1e-5
"""Text vectors have length 1, so a shorter sum is rounding of the centring: it means nothing, and
scaled to unit length it would look as if it did."""


class Projection(Perceptron):
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


class MediaProjection(MediaPerceptron):
    """P_i of what items bring beside their text: [B, M + 1] to [B, D]."""

    is_identity = False

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(tensors, MEDIA, "c")


class Context(Perceptron):
    """C of a user's features: [B, F] to [B, D]."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(tensors, "context", "d")
        for name, default in (("mean", torch.zeros), ("scale", torch.ones)):
            fixed = tensors.get(f"context.{name}")
            self.register_buffer(name, default(len(FEATURES)) if fixed is None else fixed.float())
        query = tensors.get("context.Q")
        self.Q = None if query is None else nn.Parameter(query.float())

    @property
    def is_zero(self) -> bool:
        """Whether C = 0 for everybody, as it is before training."""
        return not self.training and not any(
            tensor is not None and bool(tensor.any()) for tensor in (self.W, self.V, self.c, self.Q)
        )

    def forward(self, features: torch.Tensor, queries: torch.Tensor | None = None) -> torch.Tensor:
        """[B, F] features and [B, T] the whitened mean of recent queries' texts -> [B, D]."""
        assert isinstance(self.mean, torch.Tensor)
        assert isinstance(self.scale, torch.Tensor)
        features = (features - self.mean) * self.scale
        parts = [] if self.V is None else [functional.linear(features, self.V)]
        bent = self.bent(features)
        if bent is not None:
            parts.append(bent)
        if self.Q is not None and queries is not None:
            parts.append(functional.linear(queries, self.Q))
        total = torch.stack(parts).sum(0) if parts else features.new_zeros(1)
        return total if self.c is None else total + self.c


class InterestModel(nn.Module):
    """Differentiable, so that training can hold one; serving goes through ``in_blocks``."""

    def __init__(
        self,
        config: InterestConfig,
        dimensions: int,
        tensors: Mapping[str, torch.Tensor],
        dropout: float = 0.0,
        residual_dropout: float = 0.0,
        tower_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.dimensions = dimensions
        self.active = config.active
        self._projections = nn.ModuleDict(
            {
                name: MediaProjection(tensors) if name == MEDIA else Projection(tensors, name)
                for name in config.granularities
            }
        )
        self.context = Context(tensors)
        query, joint = tensors.get("attention.q"), tensors.get("concat.F")
        self.query = None if query is None else nn.Parameter(query.float())
        self.joint = None if joint is None else nn.Parameter(joint.float())
        self.whiten = tensors.get("whiten")
        self.fixed = {name: tensors[name] for name in _FIXED if name in tensors}
        """What training sets once and serving reads elsewhere."""
        self.tower = None
        if "tower.gain" in tensors:
            activation = config.tower_activation or "gelu"
            self.tower = ItemTower(tensors, residual_dropout, tower_dropout, activation)
        self.reader = _reader(config, dimensions, tensors, dropout)
        several = tensors.get("several.F")
        self.heads = None if several is None else nn.Parameter(several.float())
        self.score_scale = nn.Parameter(tensors.get("score.scale", torch.zeros(())).float())
        self.score_shift = nn.Parameter(tensors.get("score.shift", torch.zeros(())).float())

    def projection(self, granularity: str) -> Projection | MediaProjection:
        """Return P_i of a granularity, active or not."""
        projection = self._projections[granularity]
        assert isinstance(projection, Projection | MediaProjection)
        return projection

    @property
    def is_untrained(self) -> bool:
        """Whether the vector is just the weighted sum of the x_i: then no product is needed."""
        learned = {"attention": self.query, "concat": self.joint}.get(self.config.fusion)
        return (
            self.tower is None
            and self.reader is None
            and self.whiten is None
            and self.heads is None
            and all(self.projection(name).is_identity for name in self.active)
            and not self.uses_context
            and (learned is None or (self.config.fusion == "attention" and not learned.any()))
        )

    @property
    def interests(self) -> int:
        """K, the vectors of a user beside the one."""
        return 0 if self.heads is None else len(self.heads)

    @property
    def uses_context(self) -> bool:
        """Whether features can change a vector."""
        return self.config.context and not self.context.is_zero

    @property
    def reads_queries(self) -> bool:
        """Whether the texts of recent searches can change a vector."""
        return self.config.context and self.context.Q is not None

    def knows(self, granularity: str) -> bool:
        """Whether P_i means anything: a trained model knows what it was trained with."""
        return self.tower is None or granularity in self.active

    def reads(self, granularity: str) -> bool:
        """Whether a granularity's x is what the reader says of its events, in order."""
        return self.reader is not None and granularity in ("paragraph", "document")

    def whitened(self, level: int, x: torch.Tensor) -> torch.Tensor:
        """[..., T] centred vectors of one level -> [..., T] uncorrelated over the catalogue."""
        return x if self.whiten is None else functional.linear(x, self.whiten[level].to(x.device))

    def tower_x(self, levels: torch.Tensor) -> torch.Tensor:
        """[N, 3, T] centred vectors of texts -> what the tower takes of them: [N, T] of the whole
        text, or [N, 3 T] of all levels, whitened."""
        assert self.tower is not None
        if self.tower.width == levels.shape[-1]:
            return self.whitened(TEXT, levels[:, TEXT])
        return torch.cat([self.whitened(level, levels[:, level]) for level in range(LEVELS)], dim=1)

    def forward(
        self,
        x: Sequence[torch.Tensor],
        features: torch.Tensor | None = None,
        queries: torch.Tensor | None = None,
        names: Sequence[str] = (),
    ) -> torch.Tensor:
        """x of each active granularity, [B, T] pooled, centred and whitened, [B, D] read or
        [B, M + 1] of media; [B, F] features and [B, T] queries of the context -> [B, 1 + K, D] unit
        length: the vector, and the K of several interests where the model has them.

        ``names`` are those that ``x`` is of, where they are not all that are active."""
        names = names or self.active
        projected = torch.stack(
            [self.projection(name)(part) for name, part in zip(names, x, strict=True)]
        )
        context = None
        if features is not None and self.uses_context:
            context = self.context(features, queries)
        fused = self.fuse(projected, context, names)
        if self.heads is None:
            return unit_or_zero(fused)[:, None]
        count, dimensions, _ = self.heads.shape
        more = functional.linear(fused, self.heads.reshape(count * dimensions, dimensions))
        more = more.view(-1, count, dimensions)
        return unit_or_zero(torch.cat([fused[:, None], more], dim=1))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor by the name it has in the folder, on the CPU."""
        found = dict(self.fixed)
        for name in self.config.granularities:
            found |= self.projection(name).tensors(name, "c")
        context = self.context.tensors("context", "d")
        if context:
            context |= {f"context.{k}": v for k, v in self.context.named_buffers()}
        learned = {"attention.q": self.query, "concat.F": self.joint, "whiten": self.whiten}
        learned["several.F"] = self.heads
        found |= context | {name: t.detach() for name, t in learned.items() if t is not None}
        if self.tower is not None:
            found |= self.tower.tensors()
            found |= {"score.scale": self.score_scale.detach()}
            found |= {"score.shift": self.score_shift.detach()}
        if self.reader is not None:
            found |= {f"reader.{k}": v.detach() for k, v in self.reader.state_dict().items()}
        return {name: tensor.cpu().contiguous() for name, tensor in found.items()}

    def fuse(
        self, projected: torch.Tensor, context: torch.Tensor | None, names: Sequence[str] = ()
    ) -> torch.Tensor:
        """[A, B, D] projected granularities and [B, D] context -> [B, D], not of unit length;
        ``names`` as in ``forward``."""
        names = names or self.active
        weights = projected.new_tensor([self.config.weights[name] for name in names])
        if self.config.fusion == "concat" and self.joint is not None:
            rest = torch.zeros_like(projected[0]) if context is None else context
            rest = rest.expand_as(projected[0])
            joint = joint_of(self.joint, self.active, names)
            return functional.linear(torch.cat([*projected, rest], dim=1), joint)
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


def joint_of(joint: torch.Tensor, active: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """Return what ``concat.F`` [D, (A + 1) D] of the ``active`` granularities has for some of them
    and the context: the others count as zero."""
    if tuple(names) == tuple(active):
        return joint
    blocks = torch.split(joint, len(joint), dim=1)
    return torch.cat([*(blocks[active.index(name)] for name in names), blocks[-1]], dim=1)


def _reader(
    config: InterestConfig, dimensions: int, tensors: Mapping[str, torch.Tensor], dropout: float
) -> SequenceReader | None:
    """The reader with its weights, none where the configuration has none."""
    if config.sequence is None:
        return None
    reader = SequenceReader(config.sequence, dimensions, dropout)
    weights = {k.removeprefix("reader."): v for k, v in tensors.items() if k.startswith("reader.")}
    reader.load_state_dict(weights)
    return reader


def in_blocks(
    module: Callable[..., torch.Tensor], *inputs: torch.Tensor, size: int = _BLOCK_USERS
) -> torch.Tensor:
    """Apply ``module`` to inputs of [B, ...] in products of one fixed size, filled up with zeros,
    so no user's bits depend on the batch."""
    results = []
    for start in range(0, len(inputs[0]), size):
        block = [part[start : start + size] for part in inputs]
        users = len(block[0])
        if users < size:
            block = [
                torch.cat([part, part.new_zeros(size - users, *part.shape[1:])]) for part in block
            ]
        results.append(module(*block)[:users])
    if not results:
        return module(*(part.new_zeros(1, *part.shape[1:]) for part in inputs))[:0]
    return torch.cat(results)


def unit_or_zero(vectors: torch.Tensor) -> torch.Tensor:
    """Scale the last dimension to length 1; what is negligible becomes exactly zero."""
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    tells = norms > NEGLIGIBLE_NORM
    # Divided by 1, not by 0: the slope of what is not taken would be NaN, and spoil the others.
    return torch.where(tells, vectors / torch.where(tells, norms, 1.0), torch.zeros_like(vectors))
