"""The shape of every deletion test: what is left of a score when parts of its input are taken out,
those first that are said to contribute most, at random, or those last (Samek et al. 2017,
section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from encoders.evaluation.bootstrap import estimates
from encoders.evaluation.metrics import Float64
from encoders.evaluation.results import Deleted
from encoders.interface import Int64


def taking_out(
    ranked: Sequence[Int64],
    counts: Sequence[int],
    scores_without: Callable[[Sequence[Int64]], Float64],
    seed: int,
    rng: np.random.Generator,
) -> list[Deleted]:
    """Return a line for nothing taken out, and one for each of ``counts``.

    ``ranked`` are each case's parts, the largest contribution first; ``scores_without`` gives the
    cases' scores [B] without these parts.
    """
    orders = {
        "most": ranked,
        "random": [rng.permutation(order) for order in ranked],
        "least": [order[::-1] for order in ranked],
    }

    def line(count: int) -> Deleted:
        left = {
            how: scores_without([parts[:count] for parts in order]) for how, order in orders.items()
        }
        left["gap"] = left["most"] - left["random"]
        return Deleted(count, **estimates(left, np.arange(len(ranked)), seed=seed))

    return [line(count) for count in (0, *counts)]
