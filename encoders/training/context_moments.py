"""Mean and deviation of the context's features, by which the model scales them.

Legend: P asked events, F context features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.context_features import FEATURES
from encoders.training.events import TrainingEvents
from encoders.training.settings import TrainingSettings
from encoders.training.windows import batch_of

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContextMoments:
    """Of all asked events."""

    mean: Float64
    """[F]"""
    deviation: Float64
    """[F] exactly 0 where a feature never changes."""


def context_moments(
    events: TrainingEvents, settings: TrainingSettings, session_gap_ms: int
) -> ContextMoments:
    """Return the moments of all windows, as one epoch cuts them.

    Of all and not of a sample: a feature that the sample does not see change is lost to the model
    for good, and one batch alone holds windows of one length. An epoch makes the same features.
    """
    count = 0
    origin, total, squares = (np.zeros(len(FEATURES)) for _ in range(3))
    for stretches in events.batches(settings, np.random.default_rng(settings.seed)):
        features = batch_of(events, stretches, session_gap_ms, context=True).windows.features
        assert features is not None
        if not count:
            origin = features[0].astype(np.float64)  # what never changes has no rounding then
        apart = features - origin
        count += len(apart)
        total += apart.sum(axis=0)
        squares += np.square(apart).sum(axis=0)
    mean = total / count
    variance = np.maximum(squares / count - np.square(mean), 0.0)
    return ContextMoments(origin + mean, np.sqrt(variance))
