"""Text vectors by row: in memory, in front of a cache on disk, in front of the text model.

Legend: R rows of the slab, K events, B bags, T dimensions of the text model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from encoders.config import EncoderConfig
from encoders.interface import Float32, Int64, TextReport
from encoders.text_encoder import TextEncoder
from encoders.text_rows import TextRows, content_key
from encoders.tokens import LEVELS


class TextStore:
    """The slab is float32, as the model gives it: what comes back from memory or disk then is
    bit for bit what was computed, and the pooling sums need no conversion. Half the size would
    save memory, not time: a catalogue's rows fit a CPU's last cache either way.
    """

    def __init__(self, config: EncoderConfig, text_encoder: TextEncoder) -> None:
        self._encoder = text_encoder
        self._namespace = b"transformer"
        self.rows = TextRows(config.slab_rows)
        self.vectors = _slab(config.slab_rows, text_encoder)
        """[R, 3, T]"""

    def put(self, texts: Sequence[tuple[int, str]]) -> TextReport:
        """Fill rows; see ``InterestEncoder.put_texts``."""
        self.rows.check(texts)
        wanted: dict[bytes, list[int]] = {}
        text_of: dict[bytes, str] = {}
        hits_memory = 0
        for row, text in texts:
            key = content_key(self._namespace, text)
            if self._copied(row, key):
                hits_memory += 1
                continue
            self.rows.clear(row)
            wanted.setdefault(key, []).append(row)
            text_of[key] = text
        encoded = self._encoder.encode([text_of[key] for key in wanted])
        failed = []
        for place, (key, rows) in enumerate(wanted.items()):
            for row in rows:
                if place in encoded.failed:
                    failed.append((row, encoded.failed[place]))
                    continue
                self.vectors[row] = torch.from_numpy(encoded.vectors[place])
                self.rows.put(row, key, known=place not in encoded.empty)
        return TextReport(hits_memory, 0, len(wanted) - len(encoded.failed), encoded.tokens, failed)

    def pool(self, level: int, rows: Int64, starts: Int64, weights: Float32) -> torch.Tensor:
        """Return [B, T] weighted sums of one level's vectors, one bag per start.

        A bag is added row by row, in order: no sum depends on another bag.
        """
        flat = self.vectors.view(-1, self.vectors.shape[-1])
        # int32 indices need no conversion in the kernel: 1.7 ms against 2.7 for 1,024 bags of 50.
        index, offsets, shares = (
            torch.from_numpy(array).to(flat.device, non_blocking=True)
            for array in (
                (rows * LEVELS + level).astype(np.int32),
                starts.astype(np.int32),
                weights,
            )
        )
        return functional.embedding_bag(index, flat, offsets, mode="sum", per_sample_weights=shares)

    def close(self) -> None:
        """Give the memory back."""
        self.vectors = torch.zeros(0, LEVELS, self._encoder.dimensions)

    def _copied(self, row: int, key: bytes) -> bool:
        held = self.rows.row_with(key)
        if held is None:
            return False
        if held != row and self.rows.key_at(row) != key:
            known = bool(self.rows.known[held])
            self.vectors[row] = self.vectors[held]
            self.rows.put(row, key, known=known)
        return True


def _slab(rows: int, encoder: TextEncoder) -> torch.Tensor:
    shape = (rows, LEVELS, encoder.dimensions)
    if encoder.device.type == "cpu":
        # numpy's zeros take pages when they are first written, torch's take all at once.
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(shape, device=encoder.device)
