"""The real encoder: a text model, its vectors kept by row, and an interest model over them.

Legend: B users, K events with a known text, N rows, T text dimensions, D dimensions, G
granularities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from encoders import interest_folder, model_files
from encoders.config import EncoderConfig, InterestConfig
from encoders.context_features import context_features
from encoders.event_weights import EventWeigher, WeightedEvents
from encoders.interest_folder import InterestBundle
from encoders.interest_model import InterestModel, in_blocks, unit_or_zero
from encoders.interface import (
    GRANULARITIES,
    EncoderInfo,
    Float32,
    Int32,
    Interests,
    TextReport,
    WindowBatch,
)
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
        centre = bundle.tensors.get("centre", torch.zeros(3, self._text.dimensions))
        self._centre = centre.float().to(self._text.device)
        self._weigher = EventWeigher(bundle.config)
        self._shares = dict(zip(GRANULARITIES, bundle.config.shares(), strict=True))
        self.info = EncoderInfo(
            model_id=model_files.model_id(self._text.content_id, bundle.content_id, config.vectors),
            dimensions=dimensions,
            granularities=GRANULARITIES,
            weights=bundle.config.shares(),
            device=str(self._text.device),
            backend=self._text.backend,
        )

    def put_texts(self, texts: Sequence[tuple[int, str]]) -> TextReport:
        """See ``InterestEncoder.put_texts``."""
        return self._store.put(texts)

    def drop_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        """See ``InterestEncoder.drop_texts``."""
        self._store.drop(texts)

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        """See ``InterestEncoder.encode``."""
        with_session = with_granularities or self._shares["paragraph"] > 0.0
        known = self._store.rows.known
        events = self._weigher.weigh(batch, known, with_session=with_session)
        with torch.inference_mode():
            vectors = self._fused(batch, events)
            vectors[torch.from_numpy(~events.has_weight).to(vectors.device)] = 0.0
            granularities = self._granularities(events) if with_granularities else None
            return Interests(_to_numpy(vectors), granularities)

    def item_vectors(self, rows: Int32) -> Float32:
        """See ``InterestEncoder.item_vectors``."""
        known = torch.from_numpy(self._store.rows.are_known(rows))
        index = torch.from_numpy(rows.astype(np.int64))
        with torch.inference_mode():
            levels = self._store.vectors[index.to(self._text.device)] - self._centre
            if self._model.is_untrained:
                shares = levels.new_tensor(self._level_shares())
                vectors = unit_or_zero((levels * shares[:, None]).sum(1))
            else:
                x = torch.stack([levels[:, _LEVEL_OF[name]] for name in self._model.active])
                vectors = in_blocks(self._model, x)
            vectors[~known.to(vectors.device)] = 0.0
            return _to_numpy(vectors)

    def close(self) -> None:
        """See ``InterestEncoder.close``."""
        self._store.close()

    def _fused(self, batch: WindowBatch, events: WeightedEvents) -> torch.Tensor:
        if self._model.is_untrained:
            return unit_or_zero(self._weighted_sum(events))
        x = torch.stack([self._pooled(name, events) for name in self._model.active])
        features = None
        if self._model.uses_context:
            computed = context_features(batch, self._config.session_gap_ms)
            features = torch.from_numpy(computed).to(x.device, non_blocking=True)
        return in_blocks(self._model, x, features)

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
        for name in GRANULARITIES:
            x, projection = self._pooled(name, events), self._model.projection(name)
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
