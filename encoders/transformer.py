"""The real encoder: a text model, its vectors kept by row, and an interest model over them.

Legend: B users, K events with a known text, N rows, T text dimensions, D dimensions, G
granularities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from encoders import interest_folder, model_bundle, model_files
from encoders.config import EncoderConfig, InterestConfig
from encoders.context_features import context_features
from encoders.event_weights import EventWeigher, WeightedEvents
from encoders.interest_folder import InterestBundle
from encoders.interest_model import InterestModel, in_blocks, unit_or_zero
from encoders.interface import (
    MEDIA,
    EncoderInfo,
    Float32,
    Int32,
    Interests,
    TextReport,
    WindowBatch,
)
from encoders.media_rows import MediaRows
from encoders.sequence_batches import BLOCK_USERS, rectangles
from encoders.text_encoder import TextEncoder
from encoders.text_store import TextStore
from encoders.tokens import SENTENCE, TEXT, WORD

_LEVEL_OF = {"word": WORD, "sentence": SENTENCE, "paragraph": TEXT, "document": TEXT}


class TransformerEncoder:
    """An ``InterestEncoder`` on a transformers model."""

    def __init__(
        self,
        config: EncoderConfig,
        interest: InterestConfig | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        config = model_bundle.opened(config)
        self._text = text_encoder or TextEncoder(config)
        bundle = InterestBundle.untrained(interest)
        if config.interest_model:
            bundle = interest_folder.load(
                Path(config.interest_model),
                text_dimensions=self._text.dimensions,
                vocabulary=self._text.vocabulary,
                text_id=self._text.content_id,
            )
        salience = bundle.tensors.get("salience")
        self._text.use_salience(None if salience is None else salience.float().numpy())
        self._store = TextStore(config, self._text)
        self._config = bundle.config
        dimensions = bundle.config.dimensions or self._text.dimensions
        self._model = InterestModel(bundle.config, dimensions, bundle.tensors).eval()
        self._model.requires_grad_(False).to(self._text.device)
        self._items = None
        if self._model.tower is not None:
            shape = (config.slab_rows, dimensions)
            self._items = torch.zeros(shape, device=self._text.device)
        self._media = None
        if bundle.config.media_dimensions:
            self._media = MediaRows(config.slab_rows, bundle.tensors, self._text.device)
        centre = bundle.tensors.get("centre", torch.zeros(3, self._text.dimensions))
        self._centre = centre.float().to(self._text.device)
        self._weigher = EventWeigher(bundle.config)
        names = bundle.config.granularities
        self._shares = dict(zip(names, bundle.config.shares(), strict=True))
        self.info = EncoderInfo(
            model_id=model_files.model_id(self._text.content_id, bundle.content_id, config.vectors),
            dimensions=dimensions,
            granularities=names,
            weights=bundle.config.shares(),
            device=str(self._text.device),
            backend=self._text.backend,
            vectors=config.vectors,
            media_dimensions=bundle.config.media_dimensions,
            interests=self._model.interests,
            window_max_events=bundle.config.window_max_events,
            window_max_age_ms=bundle.config.window_max_age_ms,
        )

    def put_texts(
        self, texts: Sequence[tuple[int, str]], media: Mapping[int, Float32] | None = None
    ) -> TextReport:
        """See ``InterestEncoder.put_texts``."""
        report = self._store.put(texts)
        if self._media is not None:
            refused = self._media.put(list(dict(texts)), media or {})
            report = replace(report, media_refused=refused)
        if self._items is not None:
            self._raise_tower(dict(texts), self._items)
        return report

    def _raise_tower(self, texts: dict[int, str], items: torch.Tensor) -> None:
        """Put the tower's vectors into their rows once, for every window then reads them there."""
        tower = self._model.tower
        assert tower is not None
        places = torch.from_numpy(tower.places(list(texts.values()))).to(items.device)
        rows = torch.tensor(list(texts), device=items.device, dtype=torch.int64)
        with torch.inference_mode():
            levels = self._store.vectors[rows] - self._centre
            more = () if self._media is None else (self._media.vectors[rows],)
            items[rows] = in_blocks(
                lambda part, place, *media: tower(self._model.tower_x(part), place, *media),
                *(levels, places, *more),
            )

    def drop_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        """See ``InterestEncoder.drop_texts``."""
        self._store.drop(texts)

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        """See ``InterestEncoder.encode``."""
        with_session = with_granularities or self._shares["paragraph"] > 0.0
        known = self._store.rows.known
        events = self._weigher.weigh(batch, known, with_session=with_session)
        with torch.inference_mode():
            vectors = self._fused(events)
            vectors[torch.from_numpy(~events.has_weight).to(vectors.device)] = 0.0
            granularities = self._granularities(events) if with_granularities else None
            found = _to_numpy(vectors)
            several = found[:, 1:] if found.shape[1] > 1 else None
            return Interests(np.ascontiguousarray(found[:, 0]), granularities, several)

    def item_vectors(self, rows: Int32) -> Float32:
        """See ``InterestEncoder.item_vectors``."""
        known = torch.from_numpy(self._store.rows.are_known(rows))
        index = torch.from_numpy(rows.astype(np.int64))
        with torch.inference_mode():
            index = index.to(self._text.device)
            if self._items is not None:
                vectors = unit_or_zero(self._items[index])
            else:
                vectors = self._pooled_item(self._store.vectors[index] - self._centre)
            vectors[~known.to(vectors.device)] = 0.0
            return _to_numpy(vectors)

    def text_vectors(self, rows: Int32) -> Float32:
        """Return [N, 3, T] the text model's vectors as they are kept: word, sentence, text."""
        index = torch.from_numpy(rows.astype(np.int64)).to(self._text.device)
        return _to_numpy(self._store.vectors[index].float())

    def _pooled_item(self, levels: torch.Tensor) -> torch.Tensor:
        """[N, 3, T] -> [N, D] of a model without a tower: an item is a window of itself."""
        if self._model.is_untrained:
            shares = levels.new_tensor(self._level_shares())
            return unit_or_zero((levels * shares[:, None]).sum(1))
        x = [
            self._model.whitened(_LEVEL_OF[name], levels[:, _LEVEL_OF[name]])
            for name in self._model.active
        ]
        return self._in_blocks(x, None, None)[:, 0]

    def close(self) -> None:
        """See ``InterestEncoder.close``."""
        self._store.close()

    def _fused(self, events: WeightedEvents) -> torch.Tensor:
        """[B, 1 + K, D] as the model gives them."""
        if self._model.is_untrained:
            return unit_or_zero(self._weighted_sum(events))[:, None]
        x = [self._x(name, events) for name in self._model.active]
        features = queries = None
        if self._model.uses_context:
            computed = context_features(events.batch, self._config.session_gap_ms)
            features = torch.from_numpy(computed).to(x[0].device, non_blocking=True)
        if features is not None and self._model.reads_queries:
            queries = self._queries(events)
        return self._in_blocks(x, features, queries)

    def _in_blocks(
        self,
        x: list[torch.Tensor],
        features: torch.Tensor | None,
        queries: torch.Tensor | None,
    ) -> torch.Tensor:
        """[B, 1 + K, D] from what the model's ``forward`` takes."""
        context = [part for part in (features, queries) if part is not None]

        def apply(*parts: torch.Tensor) -> torch.Tensor:
            vectors: torch.Tensor = self._model(parts[: len(x)], *parts[len(x) :])
            return vectors

        return in_blocks(apply, *x, *context)

    def _x(self, granularity: str, events: WeightedEvents) -> torch.Tensor:
        """[B, T] pooled, [B, D] read or [B, M + 1] of media: what P_i is made of."""
        if granularity == MEDIA:
            assert self._media is not None
            return self._media.pool(events)
        if self._model.reads(granularity):
            return self._read(granularity, events)
        level = _LEVEL_OF[granularity]
        pooled = self._pooled(granularity, events)
        if self._model.whiten is None:
            return pooled
        return in_blocks(lambda part: self._model.whitened(level, part), pooled)

    def _read(self, granularity: str, events: WeightedEvents) -> torch.Tensor:
        """[B, D] what the reader says at the newest event of the window or session."""
        reader, items = self._model.reader, self._items
        assert reader is not None
        assert items is not None
        result = items.new_zeros(len(events.offsets) - 1, items.shape[1])
        gap_ms = self._config.session_gap_ms if granularity == "paragraph" else None
        for part in rectangles(events, reader.config.positions, gap_ms):
            rows, times_ms, types, last = (
                torch.from_numpy(array.astype(np.int64)).to(items.device, non_blocking=True)
                for array in (
                    events.rows[part.events],
                    events.times_ms[part.events],
                    events.types[part.events],
                    part.last,
                )
            )
            vectors = in_blocks(
                lambda r, t, k, at: reader(items[r], t, k, torch.zeros_like(r), at),
                *(rows, times_ms, types, last),
                size=BLOCK_USERS,
            )
            result[torch.from_numpy(part.users).to(items.device)] = vectors
        return result

    def _queries(self, events: WeightedEvents) -> torch.Tensor:
        """[B, T] the mean of recent searches' texts, whitened; zero for who has not searched."""
        shares = self._weigher.queries(events)
        asked = np.bincount(events.users, weights=shares, minlength=len(events.offsets) - 1) > 0
        mean = self._bag(TEXT, events, shares) - self._centre[TEXT]
        mean = in_blocks(lambda part: self._model.whitened(TEXT, part), mean)
        return mean * torch.from_numpy(asked).to(mean.device)[:, None]

    def _weighted_sum(self, events: WeightedEvents) -> torch.Tensor:
        """[B, D] where P_i = x_i: granularities that read the same level share one pass."""
        total: torch.Tensor | None = None
        for level, share in enumerate(self._level_shares()):
            if share == 0.0:
                continue
            weights = events.window * np.float32(share)
            if level == TEXT and events.session is not None and self._shares["paragraph"]:
                weights = events.window * np.float32(self._shares["document"])
                weights += events.session * np.float32(self._shares["paragraph"])
            part = self._bag(level, events, weights) - self._centre[level] * share
            total = part if total is None else total + part
        assert total is not None, "a config without any weight does not validate"
        return total

    def _pooled(self, granularity: str, events: WeightedEvents) -> torch.Tensor:
        """[B, T] the centred x_i of one granularity."""
        weights = events.window
        if granularity == "paragraph" and events.session is not None:
            weights = events.session
        level = _LEVEL_OF[granularity]
        return self._bag(level, events, weights) - self._centre[level]

    def _bag(self, level: int, events: WeightedEvents, weights: Float32) -> torch.Tensor:
        return self._store.pool(level, events.rows, events.offsets[:-1], weights)

    def _granularities(self, events: WeightedEvents) -> Float32:
        silent = torch.from_numpy(~events.has_weight).to(self._text.device)
        parts = []
        for name in self.info.granularities:
            if not self._model.knows(name):
                parts.append(self._centre.new_zeros(len(silent), self.info.dimensions))
                continue
            x, projection = self._x(name, events), self._model.projection(name)
            part = x if projection.is_identity else in_blocks(projection, x)
            part = unit_or_zero(part)
            part[silent] = 0.0
            parts.append(part)
        return _to_numpy(torch.stack(parts, dim=1))

    def _level_shares(self) -> tuple[float, float, float]:
        share = self._shares
        return share["word"], share["sentence"], share["paragraph"] + share["document"]


def _to_numpy(tensor: torch.Tensor) -> Float32:
    array: Float32 = tensor.cpu().numpy()
    return array
