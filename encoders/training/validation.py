"""The model in training as a scorer of the evaluation: the same windows, the same ranking.

Legend: B questions of a block, P asked events, N items, D dimensions.
"""

from __future__ import annotations

import numpy as np
import torch

from encoders.context_features import context_features
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import held
from encoders.evaluation.metrics import Scores
from encoders.evaluation.ranking import Progress, Result, ask, cosine_scores
from encoders.evaluation.splits import Questions
from encoders.interest_model import unit_or_zero
from encoders.interface import Float32, Int64, WindowBatch
from encoders.training.causal_pass import CausalPass, Towers
from encoders.training.events import Bools
from encoders.training.windows import Windows, session_starts
from state.event import WINDOW_TYPES
from state.window import WindowPolicy


class ModelScorer:
    """Scores by the vector that serving would give for each window. Texts without a vector are
    left out of a window, as there."""

    def __init__(self, model: CausalPass, known: Bools, policy: WindowPolicy) -> None:
        self._pass = model
        self._known = known
        self._policy = policy
        self._items: Float32 | None = None

    def scores(self, questions: Questions, block: range) -> Scores:
        """[B, N] cosines."""
        users = self.vectors(questions, block)
        if self._items is None:
            self._items = self.item_vectors(len(questions.data.item_ids))
        return cosine_scores(users, self._items)

    def item_vectors(self, count: int) -> Float32:
        """Return [N, D] of the first ``count`` texts, which are the catalogue's."""
        with torch.no_grad():
            vectors = unit_or_zero(self._pass.towers(np.arange(count)).vectors)
        vectors[torch.from_numpy(~self._known[:count]).to(vectors.device)] = 0.0
        found: Float32 = vectors.float().cpu().numpy()
        return found

    def vectors(self, questions: Questions, block: range) -> Float32:
        """Return [B, D], zero where a window holds no known text."""
        data = questions.data
        pasts = [questions.past(question) for question in block]
        windows = [held(past, data.times_ms, self._policy) for past in pasts]
        usable = [window[self._usable(data, window)] for window in windows]
        told = np.flatnonzero([len(window) > 0 for window in usable])
        dimensions = self._pass.model.dimensions
        vectors = np.zeros((len(block), dimensions), dtype=np.float32)
        if not len(told):
            return vectors
        features = None
        if self._pass.rules.context:
            counts = np.stack([_counts(data, pasts[at]) for at in told])
            batch = _window_batch(data, [usable[at] for at in told], counts)
            features = context_features(batch, self._pass.rules.session_gap_ms)
        chosen = self._rectangle(data, [usable[at] for at in told], features)
        with torch.no_grad():
            towers: Towers = self._pass.towers(np.unique(chosen.rows))
            found = self._pass.users(chosen, towers)[:, 0]
        vectors[told] = found.float().cpu().numpy()
        return vectors

    def _usable(self, data: Interactions, window: Int64) -> Bools:
        rows = data.rows[window]
        known: Bools = (rows >= 0) & self._known[rows]
        return known

    def _rectangle(
        self, data: Interactions, windows: list[Int64], features: Float32 | None
    ) -> Windows:
        """All asked at their last event. What lies behind it repeats it."""
        lengths = np.array([len(window) for window in windows])
        places = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        flat = np.concatenate(windows)
        index = flat[places + (np.cumsum(lengths) - lengths)[:, None]]
        asked = np.zeros(index.shape, dtype=np.bool_)
        asked[np.arange(len(lengths)), lengths - 1] = True
        times_ms = data.times_ms[index]
        return Windows(
            rows=data.rows[index].astype(np.int64),
            times_ms=times_ms,
            types=data.types[index].astype(np.int64),
            session_starts=session_starts(times_ms, self._pass.rules.session_gap_ms),
            last=lengths - 1,
            asked=asked,
            features=features,
        )


def ask_model(
    model: CausalPass,
    questions: Questions,
    known: Bools,
    policy: WindowPolicy,
    seen: list[Int64],
    progress: Progress | None = None,
) -> Result:
    """Return how well the model ranks, with dropout off while it is asked."""
    was_training = model.model.training
    model.model.eval()
    try:
        return ask(ModelScorer(model, known, policy), questions, seen, progress)
    finally:
        model.model.train(was_training)


def _counts(data: Interactions, past: Int64) -> Int64:
    """[types] all events of a past, as a window counts them."""
    return np.bincount(data.types[past], minlength=len(WINDOW_TYPES))


def _window_batch(data: Interactions, windows: list[Int64], counts: Int64) -> WindowBatch:
    offsets = np.zeros(len(windows) + 1, dtype=np.int64)
    np.cumsum([len(window) for window in windows], out=offsets[1:])
    events = np.concatenate(windows)
    return WindowBatch(
        rows=data.rows[events],
        offsets=offsets,
        times_ms=data.times_ms[events],
        types=data.types[events],
        dwell_ms=data.dwell_ms[events],
        counts=counts,
    )
