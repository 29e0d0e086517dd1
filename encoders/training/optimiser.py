"""AdamW, its schedule, clipping, and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from encoders.training.settings import TrainingSettings

_BETAS = (0.9, 0.98)
"""The second as transformers are trained (Vaswani et al. 2017, section 5.3): its default, 0.999,
remembers a thousand steps, which is six epochs here."""
_AVERAGE_WARM_UP = 10
"""The mean forgets faster at first: it keeps at most (1 + steps) / (10 + steps)."""


_TEXT_MODEL = "text.model."
"""How the names of the text model's weights begin: they have a rate of their own."""


class Optimiser:
    """Steps a model's weights; matrices decay, gains, shifts and biases do not."""

    def __init__(self, named: Mapping[str, nn.Parameter], settings: TrainingSettings) -> None:
        self._settings = settings
        self._named = dict(named)
        groups = []
        for of_text_model in (False, True):
            for is_matrix in (True, False):
                chosen = [
                    parameter
                    for name, parameter in self._named.items()
                    if name.startswith(_TEXT_MODEL) == of_text_model
                    and (parameter.dim() >= 2) == is_matrix
                ]
                decay = settings.weight_decay if is_matrix else 0.0
                peak = settings.text_rate if of_text_model else settings.learning_rate
                if chosen:
                    groups.append({"params": chosen, "weight_decay": decay, "peak": peak})
        self._adam = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS)
        self.averaged: dict[str, torch.Tensor] = {}
        if settings.averaging:
            self.averaged = {n: p.detach().clone() for n, p in self._named.items()}

    def step(self, steps_done: int, share_done: float) -> float:
        """Make one step with the gradients there are; return the rate it had, that of all but the
        text model.

        ``share_done`` is how much of the whole run lies behind, 0 to 1.
        """
        for group in self._adam.param_groups:
            group["lr"] = group["peak"] * self._height(steps_done, share_done)
        if self._settings.clip_norm:
            nn.utils.clip_grad_norm_(list(self._named.values()), self._settings.clip_norm)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        if self.averaged:
            kept = (1 + steps_done) / (_AVERAGE_WARM_UP + steps_done)
            kept = min(self._settings.averaging, kept)
            with torch.no_grad():
                for name, parameter in self._named.items():
                    self.averaged[name].lerp_(parameter, 1.0 - kept)
        return self.rate(steps_done, share_done)

    def rate(self, steps_done: int, share_done: float) -> float:
        """Return the learning rate: a linear warm-up times half a cosine over the run."""
        return self._settings.learning_rate * self._height(steps_done, share_done)

    def _height(self, steps_done: int, share_done: float) -> float:
        warm = min(1.0, (steps_done + 1) / max(self._settings.warm_up_steps, 1))
        return warm * 0.5 * (1 + math.cos(math.pi * share_done))

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies of the weights as they are trained."""
        return {name: p.detach().clone() for name, p in self._named.items()}

    def use(self, weights: dict[str, torch.Tensor]) -> None:
        """Put these values into the model."""
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(weights[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Return AdamW's own memory, by parameter."""
        return {
            f"{key}/{name}": value
            for name, parameter in self._named.items()
            for key, value in self._adam.state[parameter].items()
        }

    def restore(self, state: dict[str, torch.Tensor], averaged: dict[str, torch.Tensor]) -> None:
        """Take up where :meth:`state` was taken."""
        for full_name, value in state.items():
            key, _, name = full_name.partition("/")
            parameter = self._named[name]
            device = "cpu" if key == "step" else parameter.device
            self._adam.state[parameter][key] = value.clone().to(device)
        for name, value in averaged.items():
            self.averaged[name].copy_(value)
