"""The item tower: a text vector to the item's vector in the space of the users' vectors.

Legend: N items, T dimensions of the text model, D of the vectors, M items known in training. ::

    item = LayerNorm(W gelu(U x + b) + V x + c + r + m)   x whitened and centred, r of known items

Models of an early version bend with tanh in place of gelu: ``tower_activation`` says so.
x is the whole text's vector, or those of all three levels side by side: as wide as V takes it. m is
the projection of what the item brings beside its text (``media_rows``), zero where it brings none.

Tensors are ``tower.W`` and so on, ``tower.gain``, ``tower.shift``, ``tower.media.W`` and so on, and
for the residuals ``residual.keys`` [M, 16] and ``residual.vectors`` [M, D]. An item is known again
by its text, which every item has: who changes an item's text has a new item, whose r is zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from encoders.config import TowerActivation
from encoders.interest_perceptron import Perceptron
from encoders.interface import Int64
from encoders.media_rows import MediaPerceptron
from encoders.text_rows import content_key

KEY_BYTES = 16
_NAMESPACE = b"residual-1"


def residual_key(text: str) -> bytes:
    """Return the 16 bytes by which an item with this text is known."""
    return content_key(_NAMESPACE, text)


class ItemTower(nn.Module):
    """[N, T] -> [N, D], not scaled to unit length: the reader of sequences wants them as they are.

    With dropout of residuals in training an item goes without its own now and then, so that the
    tower learns to say by text alone what it can, as it must of a new item.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        residual_dropout: float = 0.0,
        dropout: float = 0.0,
        activation: TowerActivation = "gelu",
    ) -> None:
        super().__init__()
        self.residual_dropout = residual_dropout
        bend = torch.tanh if activation == "tanh" else functional.gelu
        self.perceptron = Perceptron(tensors, "tower", "c", dropout, bend)
        self.media = None
        if "tower.media.V" in tensors:
            self.media = MediaPerceptron(tensors, "tower.media", "c")
        self.gain = nn.Parameter(tensors["tower.gain"].float())
        self.shift = nn.Parameter(tensors["tower.shift"].float())
        residual = tensors.get("residual.vectors")
        self.residual = None if residual is None else nn.Parameter(residual.float())
        keys = tensors.get("residual.keys")
        self._keys = keys
        self._place_of: dict[bytes, int] = {}
        if keys is not None:
            self._place_of = {row.tobytes(): at for at, row in enumerate(keys.cpu().numpy())}

    @property
    def width(self) -> int:
        """How wide a vector of a text it takes."""
        assert self.perceptron.V is not None
        return int(self.perceptron.V.shape[1])

    def places(self, texts: Sequence[str]) -> Int64:
        """Return [N] where each text's residual is, -1 where it has none."""
        if not self._place_of:
            return np.full(len(texts), -1, dtype=np.int64)
        return np.array([self._place_of.get(residual_key(text), -1) for text in texts], np.int64)

    def forward(
        self, x: torch.Tensor, places: torch.Tensor, media: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[N, width] centred and whitened text vectors, [N] places of residuals, [N, M + 1] media
        of a model that takes them -> [N, D]."""
        vectors = self.perceptron(x)
        if self.media is not None and media is not None:
            vectors = vectors + self.media(media)
        if self.residual is not None:
            found = functional.embedding(places.clamp(min=0), self.residual)
            own = places >= 0
            if self.training and self.residual_dropout:
                own = own & (torch.rand(len(own), device=own.device) >= self.residual_dropout)
            vectors = vectors + found * own[:, None]
        return functional.layer_norm(vectors, self.gain.shape, self.gain, self.shift)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by the names they have in the folder."""
        found = self.perceptron.tensors("tower", "c")
        if self.media is not None:
            found |= self.media.tensors("tower.media", "c")
        found |= {"tower.gain": self.gain.detach(), "tower.shift": self.shift.detach()}
        if self.residual is not None and self._keys is not None:
            found |= {"residual.vectors": self.residual.detach(), "residual.keys": self._keys}
        return found
