"""Text vectors that change while they are trained, and the text model that is trained for it.

In a step only some of the texts it needs are computed anew and learned from; the others are as they
were at the last :meth:`LearnedTexts.refresh`, once an epoch. So a step costs the same whatever the
size of the catalogue.

Legend: R texts, n of them at hand, S tokens, T dimensions of the text model, V words.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from encoders.errors import EncoderConfigInvalid
from encoders.interface import Int64
from encoders.text_encoder import TextEncoder, pool_tokens
from encoders.tokens import LEVELS, TEXT, TokenisedText
from encoders.training.settings import TrainingSettings

_REFRESHED_AT_ONCE = 64


class LearnedTexts(ABC):
    """See :class:`encoders.training.causal_pass.Texts`."""

    def __init__(
        self, levels: torch.Tensor, width: int, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        """``levels`` [R, 3, T] as they are before training, ``tensors`` those that made them."""
        self._levels = levels.clone()
        self._is_wide = width != levels.shape[-1]
        self._centre = tensors["centre"].to(levels.device)
        self._whiten = tensors["whiten"].to(levels.device)
        self._place = torch.full((len(levels),), -1, dtype=torch.int64, device=levels.device)
        self._fresh: torch.Tensor | None = None

    @abstractmethod
    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is learned, by name."""

    @abstractmethod
    def _anew(self, rows: Int64) -> torch.Tensor:
        """[n, 3, T] centred and whitened vectors of these texts, differentiable."""

    @abstractmethod
    def _chosen(self, rows: Int64, generator: np.random.Generator) -> Int64:
        """Those of the rows of a step that are computed anew."""

    def begin_step(self, rows: Int64, generator: np.random.Generator) -> None:
        """Compute some of the step's texts anew."""
        self.end_step()
        chosen = self._chosen(rows, generator)
        if len(chosen):
            self._fresh = self._anew(chosen)
            at = torch.from_numpy(chosen).to(self._place.device)
            self._place[at] = torch.arange(len(chosen), device=at.device)

    def end_step(self) -> None:
        """Back to the vectors of the last refresh."""
        self._fresh = None
        self._place.fill_(-1)

    def refresh(self) -> None:
        """Compute all texts anew with what has been learned by now."""
        self.end_step()
        known = np.flatnonzero(self._levels.flatten(1).any(dim=1).cpu().numpy())
        with torch.no_grad():
            for start in range(0, len(known), _REFRESHED_AT_ONCE):
                rows = known[start : start + _REFRESHED_AT_ONCE]
                found = self._anew(rows)
                self._levels[torch.from_numpy(rows).to(found.device)] = found

    def take(self, rows: torch.Tensor, level: int) -> torch.Tensor:
        """See ``Texts``."""
        held = functional.embedding(rows, self._levels[:, level])
        if self._fresh is None:
            return held
        place = self._place[rows]
        anew = functional.embedding(place.clamp(min=0), self._fresh[:, level])
        return torch.where((place >= 0)[:, None], anew, held)

    def tower_x(self, rows: torch.Tensor) -> torch.Tensor:
        """See ``Texts``."""
        if not self._is_wide:
            return self.take(rows, TEXT)
        return torch.cat([self.take(rows, level) for level in range(LEVELS)], dim=1)

    def _whitened(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nlt,lut->nlu", vectors.float() - self._centre, self._whiten)


class TunedTextModel(LearnedTexts):
    """A copy of the text model, trained wholly or by low-rank additions (LoRA, Hu et al. 2021)."""

    def __init__(
        self,
        levels: torch.Tensor,
        width: int,
        tensors: Mapping[str, torch.Tensor],
        tokens: Mapping[int, TokenisedText],
        encoder: TextEncoder,
        settings: TrainingSettings,
    ) -> None:
        super().__init__(levels, width, tensors)
        self._tokens = tokens
        self._count = settings.text_items
        self.is_low_rank = settings.text == "lora"
        self.model: Any = copy.deepcopy(encoder.model)
        if self.is_low_rank:
            self.model = _with_low_rank(self.model, settings)
        else:
            self.model.requires_grad_(True)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """See ``LearnedTexts``."""
        # The pooler of a BERT is not used here, so it has no gradient and stays as it is.
        return {
            f"text.model.{name}": parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and "pooler" not in name
        }

    def merged(self) -> PreTrainedModel:
        """Return the text model with the additions worked into its weights."""
        model = copy.deepcopy(self.model)
        merged: PreTrainedModel = model.merge_and_unload() if self.is_low_rank else model
        return merged

    def _chosen(self, rows: Int64, generator: np.random.Generator) -> Int64:
        told = np.array([row for row in rows.tolist() if row in self._tokens], dtype=np.int64)
        if len(told) <= self._count:
            return told
        return np.sort(generator.choice(told, self._count, replace=False))

    def _anew(self, rows: Int64) -> torch.Tensor:
        texts = [self._tokens[row] for row in rows.tolist()]
        longest = max(len(text.ids) for text in texts)
        ids = torch.zeros((len(texts), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for place, text in enumerate(texts):
            ids[place, : len(text.ids)] = torch.from_numpy(text.ids)
            mask[place, : len(text.ids)] = 1
        device = self._levels.device
        found = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        hidden = found.last_hidden_state[mask.bool().to(device)]
        return self._whitened(pool_tokens(hidden.float(), texts))


def _with_low_rank(model: PreTrainedModel, settings: TrainingSettings) -> Any:
    """Return a peft model whose additions alone are learned; they start at zero."""
    try:
        import peft
    except ImportError:
        raise EncoderConfigInvalid(
            "text: lora needs peft, which is not installed: install interest-stream[training]"
        ) from None
    torch.manual_seed(settings.seed)
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,  # the scale that peft's own examples use
        target_modules="all-linear",
        fan_in_fan_out=model.config.model_type == "gpt2",  # its weights lie the other way round
    )
    return peft.get_peft_model(model, config)
