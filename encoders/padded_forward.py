"""The plain forward pass of any transformers model: reference, and fallback of the packed one.

Legend: N texts, S tokens of all texts, T dimensions of the text model.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from encoders.interface import Int64
from encoders.linears import MIN_PRODUCT_ROWS


class PaddedForward:
    """Texts of one length at a time, so that nothing is padded and no text meets a mask.

    Padding to the longest text of a batch would change a text's vector in its last bits with
    the batch it came in.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device, precision: str) -> None:
        self._model = model
        self._device = device
        self._autocast = precision == "bf16"
        self.backend = f"own-length-{precision}"

    def __call__(self, texts: Sequence[Int64]) -> torch.Tensor:
        """Return the last hidden states [S, T] float32 of texts sorted by length, flattened."""
        states = []
        for length, group in itertools.groupby(texts, key=len):
            ids = torch.stack([torch.from_numpy(text) for text in group])
            wanted = len(ids)
            # Repeating the first text brings a small product over the row limit.
            missing = -(-MIN_PRODUCT_ROWS // length) - wanted
            if missing > 0:
                ids = torch.cat([ids, ids[:1].expand(missing, length)])
            hidden = self._hidden(self._to_device(ids))
            states.append(hidden[:wanted].reshape(wanted * length, -1).float())
        return torch.cat(states)

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            states = self._model(input_ids=ids, attention_mask=torch.ones_like(ids))
        hidden: torch.Tensor = states.last_hidden_state
        return hidden

    def _to_device(self, ids: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return ids
        return ids.pin_memory().to(self._device, non_blocking=True)


def padded_hidden(
    model: PreTrainedModel, texts: Sequence[Int64], pad_id: int
) -> list[torch.Tensor]:
    """Return per text its hidden states [n, T], by one padded and masked batch.

    What everybody does, and the reference that the other passes are checked against.
    """
    longest = max(len(text) for text in texts)
    ids = torch.full((len(texts), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, text in enumerate(texts):
        ids[place, : len(text)] = torch.from_numpy(text)
        mask[place, : len(text)] = 1
    device = next(model.parameters()).device
    with torch.inference_mode():
        states = model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
    return [states[place, : len(text)] for place, text in enumerate(texts)]
