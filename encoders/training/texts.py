"""Text vectors as training reads them: centred and whitened, once for the whole run.

Legend: R texts (the catalogue's N first), T dimensions of the text model, V words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from encoders.config import EncoderConfig
from encoders.errors import TrainingDataInvalid
from encoders.interest_init import catalogue_salience
from encoders.interface import Float32
from encoders.media_rows import prepared
from encoders.text_encoder import TextEncoder
from encoders.text_store import TextStore
from encoders.tokens import LEVELS
from encoders.training.events import Bools

_TEXTS_AT_ONCE = 256
_SPREAD = 0.3
"""Standard deviation of a whitened entry: a vector of 384 then has length 6, and the tower's bend
is neither flat nor straight."""
_SOFTENING = 0.02
"""Added to each direction's deviation, as a share of the mean one: the catalogue's smallest
directions, which are noise, are not blown up to the size of the others."""
_NOTHING = 1e-6
"""Directions whose deviation is a smaller share of the mean: a catalogue of few texts does not vary
there at all, and what a new text has there means nothing."""


@dataclass(frozen=True)
class TextTable:
    """The vectors of all texts, and the tensors by which serving makes the same of new ones."""

    levels: torch.Tensor
    """[R, 3, T] centred and whitened."""
    known: Bools
    """[R] whether a text has vectors."""
    failed: Sequence[tuple[int, str]]
    """(row, reason)."""
    tensors: dict[str, torch.Tensor]
    """``centre`` [3, T], ``salience`` [V], ``whiten`` [3, T, T]."""


def text_table(
    texts: Sequence[str],
    item_count: int,
    encoder: TextEncoder,
    config: EncoderConfig,
    progress: Callable[[int, int], None] | None = None,
) -> TextTable:
    """Return the table of ``texts``, of which the first ``item_count`` are the catalogue's.

    Vectors come from the disk cache of ``config`` where it has them.

    Raises:
        TrainingDataInvalid: the catalogue has no text that can be encoded.
    """
    told = sorted(text for text in texts[:item_count] if text.strip())
    if not told:
        raise TrainingDataInvalid("the catalogue has no item with text")
    salience = catalogue_salience(told, encoder)
    encoder.use_salience(salience)
    store = TextStore(replace(config, slab_rows=max(len(texts), 1)), encoder)
    failed: list[tuple[int, str]] = []
    try:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            chosen = texts[start : start + _TEXTS_AT_ONCE]
            failed += store.put(list(enumerate(chosen, start))).failed
            if progress:
                progress(start + len(chosen), len(texts))
        vectors = store.vectors.cpu().numpy()
        known = store.rows.known.copy()
    finally:
        store.close()
    of_items = vectors[:item_count][known[:item_count]]
    if not len(of_items):
        raise TrainingDataInvalid(f"no text of the catalogue could be encoded: {failed[:1]}")
    centre = of_items.mean(axis=0, dtype=np.float64)
    whiten = np.stack([whitening(of_items[:, level] - centre[level]) for level in range(LEVELS)])
    tensors = {
        "centre": torch.from_numpy(centre.astype(np.float32)),
        "salience": torch.from_numpy(salience),
        "whiten": torch.from_numpy(whiten),
    }
    levels = torch.from_numpy(vectors) - tensors["centre"]
    for level in range(LEVELS):
        levels[:, level] = levels[:, level] @ tensors["whiten"][level].T
    levels[torch.from_numpy(~known)] = 0.0
    return TextTable(levels, known, failed, tensors)


def media_table(media: Float32, rows: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """[N, M] of the catalogue, zero where an item brings none -> [rows, M + 1] as the model takes
    them, and ``media.centre`` [M], ``media.whiten`` [M, M] by which serving makes the same."""
    brought = media[np.any(media != 0.0, axis=1)].astype(np.float64)
    unit = brought / np.linalg.norm(brought, axis=1, keepdims=True)
    centre = unit.mean(axis=0)
    tensors = {
        "media.centre": torch.from_numpy(centre.astype(np.float32)),
        "media.whiten": torch.from_numpy(whitening(unit - centre)),
    }
    table = torch.zeros(rows, media.shape[1] + 1)
    table[: len(media)] = prepared(media, tensors["media.centre"], tensors["media.whiten"])
    return table, tensors


def whitening(centred: Float32 | np.ndarray) -> Float32:
    """[N, T] centred vectors -> [T, T] whose product with them is uncorrelated (PCA whitening)."""
    x = centred.astype(np.float64)
    variances, directions = np.linalg.eigh(x.T @ x / len(x))
    every = np.sqrt(np.maximum(variances, 0.0))
    mean = np.sqrt(np.mean(every**2))
    scale = _SPREAD / (every + _SOFTENING * mean + np.finfo(float).tiny)
    scale[every <= _NOTHING * mean] = 0.0
    matrix: Float32 = (scale[:, None] * directions.T).astype(np.float32)
    return matrix
