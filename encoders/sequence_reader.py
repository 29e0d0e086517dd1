"""A small causal transformer: a user's events in order to what they say at each of them.

Legend: B users, L events, D dimensions, H heads, J time buckets. An event's token is its item's
vector from the tower, plus what its type and the gap before it add. Attention is biased by how many
places and by how much time lie between two events (T5, arXiv:1910.10683, section 2.1, for places;
HSTU, arXiv:2402.17152, section 3, for both), so nothing depends on where a window begins.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from encoders.config import SequenceConfig
from encoders.dropout import Dropout
from state.event import WINDOW_TYPES

TIME_BUCKETS = 29
"""0 s, 1 s, 2 to 3 s, 4 to 7 s, … and the last from 2^27 s, four years, on."""
_NO_GAP = TIME_BUCKETS
"""The bucket of an event with nothing before it."""
_INIT_STD = 0.02
"""BERT's and GPT-2's: small beside the tower's vectors, whose entries have deviation 1."""
_EXPONENT_BITS, _EXPONENT_ZERO = 52, 1_022
"""Of a float64: bits of the fraction, and the exponent of a number from 0.5 to below 1."""


def time_bucket(span_ms: torch.Tensor) -> torch.Tensor:
    """Return the bucket of each time span, int64.

    It is the binary exponent of the seconds, read off the bits of the float64: a tenth of the
    time of a search in the bucket edges, and every machine agrees.
    """
    seconds = span_ms.clamp(min=0).double() / 1_000
    exponent = (seconds.view(torch.int64) >> _EXPONENT_BITS) - _EXPONENT_ZERO
    return exponent.clamp(min=0, max=TIME_BUCKETS - 1)


class SequenceReader(nn.Module):
    """Reads [B, L] events, oldest first; what lies behind a user's last one is never looked at."""

    def __init__(self, config: SequenceConfig, dimensions: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.kind = nn.Parameter(torch.empty(len(WINDOW_TYPES), dimensions))
        self.gap = nn.Parameter(torch.empty(TIME_BUCKETS + 1, dimensions))
        self.mask = nn.Parameter(torch.empty(dimensions))
        """Stands for the item of an event that is hidden, in training on masked events."""
        self.layers = nn.ModuleList(
            _Layer(config, dimensions, dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dimensions)
        self.dropout = Dropout(dropout)

    def initialise(self, generator: torch.Generator) -> None:
        """Set every weight from ``generator``: matrices small and random, biases zero."""
        for name, parameter in self.named_parameters():
            if name.endswith(("norm.weight", "norm_1.weight", "norm_2.weight")):
                nn.init.ones_(parameter)
            elif parameter.dim() == 1 or name.endswith(("near", "since")):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=_INIT_STD, generator=generator)

    def forward(
        self,
        tokens: torch.Tensor,
        times_ms: torch.Tensor,
        types: torch.Tensor,
        starts: torch.Tensor,
        at: torch.Tensor | None = None,
        *,
        both_ways: bool = False,
    ) -> torch.Tensor:
        """Return [B, L, D]; with ``at`` [B] only that event's, [B, D].

        ``tokens`` [B, L, D], ``times_ms`` and ``types`` int64 [B, L]. ``starts`` [B, L] is the
        first event each event may look back to: the beginning of its window or of its session.
        ``both_ways`` is for training on masked events: an event sees what comes after it, too, and
        ``at`` is each user's last event, behind which there is only filling.
        """
        places = torch.arange(tokens.shape[1], device=tokens.device)
        before = functional.pad(times_ms[:, :-1], (1, 0))
        gaps = torch.where(starts == places, _NO_GAP, time_bucket(times_ms - before))
        hidden = tokens + _chosen(self.kind, types) + _chosen(self.gap, gaps)
        hidden = self.dropout(hidden)
        apart = places[:, None] - places[None]
        spans_ms = times_ms[:, :, None] - times_ms[:, None]
        if both_ways:
            assert at is not None
            hides = (places > at[:, None])[:, None].expand(-1, len(places), -1)
            apart, spans_ms, at = apart.abs(), spans_ms.abs(), None
        else:
            hides = (apart < 0)[None] | (places < starts[:, :, None])
        distances = apart.clamp(min=0, max=self.config.positions - 1)
        since = time_bucket(spans_ms)
        users = torch.arange(len(tokens), device=tokens.device)
        for number, layer in enumerate(self.layers):
            if at is not None and number == len(self.layers) - 1:
                # Only one event's output is wanted, so only its row of the last layer is computed.
                chosen = (distances[at][:, None], since[users, at][:, None])
                hidden = layer(hidden, *chosen, hides[users, at][:, None], (users, at))
            else:
                hidden = layer(hidden, distances[None], since, hides, None)
        result: torch.Tensor = self.norm(hidden)
        return result if at is None else result[:, 0]


class _Layer(nn.Module):
    """Attention and a feed-forward part, normalised before each."""

    def __init__(self, config: SequenceConfig, dimensions: int, dropout: float) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_1 = nn.LayerNorm(dimensions)
        self.query = nn.Linear(dimensions, dimensions)
        self.key_value = nn.Linear(dimensions, 2 * dimensions)
        self.out = nn.Linear(dimensions, dimensions)
        self.norm_2 = nn.LayerNorm(dimensions)
        self.up = nn.Linear(dimensions, config.hidden)
        self.down = nn.Linear(config.hidden, dimensions)
        self.near = nn.Parameter(torch.empty(config.positions, config.heads))
        self.since = nn.Parameter(torch.empty(TIME_BUCKETS, config.heads))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        hidden: torch.Tensor,
        distances: torch.Tensor,
        since: torch.Tensor,
        hides: torch.Tensor,
        only: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """[B, L, D] -> [B, Q, D] with Q = 1 for ``only`` (user, event) and L without.

        ``distances``, ``since`` and ``hides`` are [B, Q, L] (the first may be [1, L, L]).
        """
        normed = self.norm_1(hidden)
        asking = normed
        if only is not None:
            hidden, asking = hidden[only][:, None], normed[only][:, None]
        query = self._by_head(self.query(asking))
        key, value = (self._by_head(part) for part in self.key_value(normed).chunk(2, dim=-1))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = scores + _by_head_bias(self.near, distances) + _by_head_bias(self.since, since)
        scores = scores.masked_fill(hides[:, None], float("-inf"))
        mixed = self.dropout(torch.softmax(scores, dim=-1)) @ value
        hidden = hidden + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        bent: torch.Tensor = functional.gelu(self.up(self.norm_2(hidden)))
        result: torch.Tensor = hidden + self.dropout(self.down(bent))
        return result

    def _by_head(self, vectors: torch.Tensor) -> torch.Tensor:
        """[B, L, D] -> [B, H, L, D / H]."""
        users, events, dimensions = vectors.shape
        return vectors.view(users, events, self.heads, dimensions // self.heads).transpose(1, 2)


def _chosen(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[J, D] rows by [B, L] -> [B, L, D]."""
    return functional.embedding(index, table)


def _by_head_bias(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[J, H] entries by [B, Q, L] -> [B, H, Q, L].

    One head at a time: the gradient of an embedding of H = 2 entries takes ten times as long.
    """
    flat = index.reshape(-1)
    heads = [head.index_select(0, flat).view(index.shape) for head in table.T.contiguous()]
    return torch.stack(heads, dim=1)
