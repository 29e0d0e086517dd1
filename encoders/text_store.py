"""Text vectors by row: in memory, in front of a cache on disk, in front of the text model.

Legend: R rows of the slab, K events, B bags, T dimensions of the text model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from encoders import text_cache
from encoders.config import EncoderConfig
from encoders.interface import Float32, Int64, TextReport
from encoders.text_cache import TextCache
from encoders.text_encoder import TextEncoder
from encoders.text_rows import TextRows, content_key
from encoders.tokens import LEVELS

_WIDENED_ROWS = 1_024
"""Rows made float32 at a time: 1.6 MB at 384 dimensions stay in a core's own cache. 256 bags of 50
took 2.0 ms so, 3.8 ms at 128 rows, 7.3 ms at 4,096, and 0.7 ms where the slab is float32."""


class TextStore:
    """The slab is float32, as the model gives it: what comes back from memory or disk then is
    bit for bit what was computed, and the pooling sums need no conversion.

    As float16 (``EncoderConfig.vectors``) it takes half the memory and costs time: the rows of a
    sum are made float32 first, for sums of float16 would lose what the rounding has left.
    """

    def __init__(self, config: EncoderConfig, text_encoder: TextEncoder) -> None:
        self._encoder = text_encoder
        self._namespace = text_encoder.cache_namespace()
        if config.vectors == "float16":
            self._namespace = hashlib.sha256(self._namespace + b" float16").digest()
        self.rows = TextRows(config.slab_rows)
        self.vectors = _slab(config, text_encoder)
        """[R, 3, T]"""
        self._cache: TextCache | None = None
        self._namespaces = [self._namespace]
        if config.cache_dir:
            self._namespaces = text_cache.namespaces(Path(config.cache_dir), self._namespace)
            self._cache = TextCache(
                Path(config.cache_dir),
                config.cache_max_bytes,
                text_encoder.dimensions,
                config.vectors,
            )

    def put(self, texts: Sequence[tuple[int, str]]) -> TextReport:
        """Fill rows; see ``InterestEncoder.put_texts``."""
        self.rows.check(texts)
        hits_memory, rows_of, text_of = self._not_in_memory(texts)
        held = self._cache.get(list(rows_of)) if self._cache else {}
        for key, vectors in held.items():
            self._fill(rows_of[key], key, vectors, known=True)
        fresh = [key for key in rows_of if key not in held]
        encoded = self._encoder.encode([text_of[key] for key in fresh])
        failed = []
        computed: dict[bytes, Float32] = {}
        for place, key in enumerate(fresh):
            if place in encoded.failed:
                failed += [(row, encoded.failed[place]) for row in rows_of[key]]
                continue
            known = place not in encoded.empty
            self._fill(rows_of[key], key, encoded.vectors[place], known=known)
            if known:
                computed[key] = encoded.vectors[place]
        if self._cache:
            self._cache.put(computed)
        return TextReport(
            hits_memory=hits_memory,
            hits_disk=sum(len(rows_of[key]) for key in held),
            encoded=len(fresh) - len(encoded.failed),
            tokens=encoded.tokens,
            failed=failed,
        )

    def drop(self, texts: Sequence[tuple[int, str]]) -> None:
        """Forget texts; see ``InterestEncoder.drop_texts``."""
        held = [(row, text) for row, text in texts if row >= 0]
        self.rows.check(held)
        for row, _ in held:
            self.rows.clear(row)
            self.vectors[row] = 0.0
        if self._cache:
            former = self._namespaces  # of models that ran on this cache before
            self._cache.delete([content_key(each, text) for each in former for _, text in texts])

    def _not_in_memory(
        self, texts: Sequence[tuple[int, str]]
    ) -> tuple[int, dict[bytes, list[int]], dict[bytes, str]]:
        """Hits in memory, and of the others rows and text by key, each text once."""
        hits = 0
        last_of = dict(texts)  # a row given twice in one call keeps its last text
        rows_of: dict[bytes, list[int]] = {}
        text_of: dict[bytes, str] = {}
        keys = {row: content_key(self._namespace, text) for row, text in last_of.items()}
        for row, key in keys.items():
            if self._copied(row, key):
                hits += 1
                continue
            rows_of.setdefault(key, []).append(row)
            text_of[key] = last_of[row]
        for rows in rows_of.values():
            for row in rows:
                self.rows.clear(row)
        return hits, rows_of, text_of

    def _fill(self, rows: list[int], key: bytes, vectors: Float32, *, known: bool) -> None:
        for row in rows:
            self.vectors[row] = torch.from_numpy(vectors)
            self.rows.put(row, key, known=known)

    def pool(self, level: int, rows: Int64, starts: Int64, weights: Float32) -> torch.Tensor:
        """Return [B, T] weighted sums of one level's vectors, one bag per start.

        A bag is added row by row, in order: no sum depends on another bag.
        """
        if self.vectors.dtype == torch.float16:
            return self._pool_float16(level, rows, starts, weights)
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

    def _pool_float16(
        self, level: int, rows: Int64, starts: Int64, weights: Float32
    ) -> torch.Tensor:
        """The same, bag by bag in the same order, as many bags at a time as the cap allows."""
        device, width = self.vectors.device, self.vectors.shape[-1]
        flat = self.vectors.view(-1, width)
        index, shares, offsets = (
            torch.from_numpy(array).to(device)
            for array in ((rows * LEVELS + level).astype(np.int64), weights, starts)
        )
        ends = np.append(starts[1:], len(rows))
        parts = [torch.zeros(0, width, device=device)]
        bag = 0
        while bag < len(starts):
            first = starts[bag]
            stop = max(bag + 1, int(np.searchsorted(ends, first + _WIDENED_ROWS, side="right")))
            end = ends[stop - 1]
            # index_select, for indexing with [] took three times as long.
            widened = flat.index_select(0, index[first:end]).float()
            parts.append(
                functional.embedding_bag(
                    torch.arange(end - first, device=device),
                    widened,
                    offsets[bag:stop] - first,
                    mode="sum",
                    per_sample_weights=shares[first:end],
                )
            )
            bag = stop
        return torch.cat(parts)

    def close(self) -> None:
        """Give the memory back and close the cache."""
        if self._cache:
            self._cache.close()
        self.vectors = torch.zeros(0, LEVELS, self._encoder.dimensions)

    def _copied(self, row: int, key: bytes) -> bool:
        if self.rows.key_at(row) == key:
            return True
        held = self.rows.row_with(key)
        if held is None:
            return False
        self.vectors[row] = self.vectors[held]
        self.rows.put(row, key, known=bool(self.rows.known[held]))
        return True


def _slab(config: EncoderConfig, encoder: TextEncoder) -> torch.Tensor:
    shape = (config.slab_rows, LEVELS, encoder.dimensions)
    if encoder.device.type == "cpu":
        # numpy's zeros take pages when they are first written, torch's take all at once.
        return torch.from_numpy(np.zeros(shape, dtype=config.vectors))
    return torch.zeros(shape, dtype=getattr(torch, config.vectors), device=encoder.device)
