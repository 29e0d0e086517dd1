"""What items bring beside their text, an image's or a sound's vector, as the model takes it.

Legend: N items, M numbers of a media vector, R rows, K events, B users. ::

    m' = (m / |m| - centre) whiten^T, and behind it 1

The number behind it is 0, like all others, where an item brings none. Sums weighed like any other
granularity's then tell in it how much of a window they speak for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from encoders.event_weights import WeightedEvents
from encoders.interest_perceptron import Perceptron
from encoders.interface import Float32

Tensors = Mapping[str, torch.Tensor]


class MediaPerceptron(Perceptron):
    """[..., M + 1] -> [..., D]: a window speaks as loud as the share of it that brings media, one
    without any is silent."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of those that bring some, projected, times their share."""
        share = x[..., -1:]
        mean = x[..., :-1] / torch.where(share > 0, share, torch.ones_like(share))
        return super().forward(mean) * share


def prepared(media: Float32, centre: torch.Tensor, whiten: torch.Tensor) -> torch.Tensor:
    """[N, M] as items bring them, zero where one brings none -> [N, M + 1] as the model takes."""
    lengths = np.linalg.norm(media, axis=1, keepdims=True)
    brings = torch.from_numpy(lengths > 0)
    unit = torch.from_numpy((media / np.where(lengths > 0, lengths, 1)).astype(np.float32))
    ready = functional.linear(unit - centre.cpu(), whiten.cpu()) * brings
    return torch.cat([ready, brings.float()], dim=1)


class MediaRows:
    """Media vectors under the row numbers of the caller."""

    def __init__(self, rows: int, tensors: Tensors, device: torch.device) -> None:
        self._centre = tensors["media.centre"].float()
        self._whiten = tensors["media.whiten"].float()
        self.vectors = torch.zeros(rows, len(self._centre) + 1, device=device)
        """[R, M + 1]"""

    def put(self, rows: Sequence[int], media: Mapping[int, Float32]) -> list[tuple[int, str]]:
        """Give ``rows`` the vectors that ``media`` has for them, and none where it has none.

        Returns (row, reason) of vectors that cannot be taken; their rows have none.
        """
        count = len(self._centre)
        raw = np.zeros((len(rows), count), dtype=np.float32)
        refused = []
        for at, row in enumerate(rows):
            vector = media.get(row)
            if vector is None:
                continue
            if vector.shape != (count,):
                reason = f"media_vector has {len(vector)} numbers, the model takes {count}"
                refused.append((row, reason))
            else:
                raw[at] = vector
        # One row at a time: a product of another size may use another kernel, and an item's bits
        # would depend on its company.
        ready = [prepared(one[None], self._centre, self._whiten) for one in raw]
        if ready:
            self.vectors[torch.tensor(rows)] = torch.cat(ready).to(self.vectors.device)
        return refused

    def pool(self, events: WeightedEvents) -> torch.Tensor:
        """[B, M + 1] weighted sums over each window."""
        index, starts, weights = (
            torch.from_numpy(array).to(self.vectors.device)
            for array in (events.rows, events.offsets[:-1], events.window)
        )
        return functional.embedding_bag(
            index, self.vectors, starts, mode="sum", per_sample_weights=weights
        )
