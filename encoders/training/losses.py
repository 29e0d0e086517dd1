"""What training makes small.

Legend: P asked events, K interests, C candidates, n texts at hand, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from encoders.interest_model import InterestModel, unit_or_zero
from encoders.interface import Int64
from encoders.training.chunked_softmax import ChunkedCrossEntropy
from encoders.training.settings import TrainingSettings


@dataclass(frozen=True)
class Candidates:
    """What the next item is compared with in one step."""

    items: Int64
    """[C] different items, ascending."""
    log_share: torch.Tensor | None
    """[C] logarithm of how likely each is to be among them; None: all alike."""
    hold_asked: bool = True
    """Whether every asked item is among them; else each is compared beside its own."""


def candidates(
    settings: TrainingSettings,
    asked: Int64,
    popularity: Int64,
    generator: np.random.Generator,
    device: torch.device,
) -> Candidates:
    """Return the candidates for the [P] ``asked`` items of a batch.

    ``popularity`` is [N] how often each item is asked for in all. One that never is, is nothing's
    negative: it would be pushed away from everybody before anyone has met it. In a batch of P, an
    item of share q is met with likelihood 1 - (1 - q)^P, whose logarithm is taken off its logit, or
    popular items would be pushed away for being met often (Yi et al. 2019, section 3.2, there with
    q itself, for items that are counted as often as they are met).
    """
    met = np.unique(asked)
    if settings.negatives != "in_batch" or settings.loss != "cross_entropy":
        ever = np.union1d(np.flatnonzero(popularity), met)  # hidden events ask for others, too
        if settings.negatives != "uniform" or settings.negative_count >= len(ever):
            return Candidates(ever, None)
        drawn = generator.choice(ever, settings.negative_count, replace=False)
        return Candidates(np.sort(drawn), None, hold_asked=False)
    share = np.maximum(popularity[met], 1) / popularity.sum()
    likely = -np.expm1(len(asked) * np.log1p(-share))
    return Candidates(met, torch.from_numpy(np.log(likely)).float().to(device))


def loss_sum(
    settings: TrainingSettings,
    model: InterestModel,
    users: torch.Tensor,
    items: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor,
    among: torch.Tensor,
    drawn: Candidates,
) -> torch.Tensor:
    """Return the sum over the asked events.

    ``users`` [P, 1 + K, D] unit length, ``items`` [n, D] as the tower gives them, ``target`` [P]
    and ``among`` [C] places of the next items and of the candidates among them.
    """
    items = unit_or_zero(items)
    scale, shift = model.score_scale.exp(), model.score_shift
    total = users.new_zeros(())
    for vectors in _views(users, items[target]):
        own = (vectors * items[target]).sum(-1) * scale + shift
        if settings.loss == "binary":
            part = functional.binary_cross_entropy_with_logits(own, labels, reduction="sum")
        elif settings.loss == "squared_error":
            part = functional.mse_loss(own, labels, reduction="sum")
        else:
            part = _cross_entropy(vectors * scale, own - shift, items[among], target, among, drawn)
        total = total + part
    return total


def _views(users: torch.Tensor, wanted: torch.Tensor) -> list[torch.Tensor]:
    """The user's one vector, and of several the one nearest to what comes next (ComiRec, Cen et
    al. 2020, equation 8): [P, D] each."""
    if users.shape[1] == 1:
        return [users[:, 0]]
    more = users[:, 1:]
    with torch.no_grad():
        nearest = (more * wanted[:, None]).sum(-1).argmax(1)
    return [users[:, 0], more[torch.arange(len(more), device=more.device), nearest]]


def _cross_entropy(
    vectors: torch.Tensor,
    own: torch.Tensor,
    items: torch.Tensor,
    target: torch.Tensor,
    among: torch.Tensor,
    drawn: Candidates,
) -> torch.Tensor:
    """[P, D] scaled vectors, [P] logits of the next items, [C, D] the candidates' vectors."""
    if drawn.hold_asked:
        bias = None if drawn.log_share is None else -drawn.log_share
        place = torch.searchsorted(among, target)
        total: torch.Tensor = ChunkedCrossEntropy.apply(vectors, items, bias, place)
        return total
    logits = (vectors @ items.T).masked_fill(among == target[:, None], float("-inf"))
    logits = torch.cat([own[:, None], logits], dim=1)
    first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return functional.cross_entropy(logits.float(), first, reduction="sum")
