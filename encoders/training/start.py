"""The model as it is before the first step: configuration and tensors.

Legend: N items, M items met in training, T text dimensions, D of the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import torch

from encoders.config import InterestConfig, SequenceConfig
from encoders.context_features import FEATURES
from encoders.interface import GRANULARITIES, MEDIA
from encoders.item_tower import residual_key
from encoders.sequence_reader import SequenceReader
from encoders.tokens import TEXT
from encoders.training.context_moments import ContextMoments
from encoders.training.events import TrainingEvents
from encoders.training.settings import TrainingSettings
from encoders.training.texts import TextTable
from state.event import TYPE_CODES, EventType

Tensors = dict[str, torch.Tensor]

_CONTEXT_HIDDEN = 64
"""Three times the features: the tanh branch of so few numbers gains nothing from more."""
_LEAST_DEVIATION = 0.01
"""Of shares and logarithms: that of a share which is 1 once in 10,000 events. Scaled to deviation
1, a rarer one would drown all others where it comes."""
_START_SCALE = 3.0
"""Logarithm of 20: cosines of -1 to 1 then spread over the logits that a softmax over thousands of
items needs; it is learned from there."""
_BINARY_SCALE = 1.6
"""Logarithm of 5: a probability needs no more."""


def start_config(
    settings: TrainingSettings, text_id: str, media_dimensions: int = 0
) -> InterestConfig:
    """Return the configuration of the model that ``settings`` describe."""
    names = (*GRANULARITIES, MEDIA) if media_dimensions else GRANULARITIES
    sequence = None
    if settings.layers:
        sequence = SequenceConfig(
            layers=settings.layers,
            heads=settings.heads,
            positions=settings.window_events,
            hidden=4 * settings.dimensions,
        )
    return InterestConfig(
        dimensions=settings.dimensions,
        weights={name: float(name in settings.granularities) for name in names},
        fusion=settings.fusion,
        context=settings.context,
        text_model_id=text_id,
        media_dimensions=media_dimensions,
        window_max_events=settings.window_events,
        window_max_age_ms=settings.window_age_ms,
        tower_activation="gelu",
        every_subset=True if settings.every_subset else msgspec.UNSET,
        sequence=sequence,
    )


def start_tensors(
    settings: TrainingSettings,
    config: InterestConfig,
    table: TextTable,
    texts: Sequence[str],
    events: TrainingEvents,
    moments: ContextMoments | None,
) -> Tensors:
    """Return every tensor of the model, the random ones drawn by the settings' seed.

    ``texts`` are those of the table, ``moments`` the context's, None where it takes no part.
    """
    draw = _Drawing(settings.seed)
    dimensions = settings.dimensions
    text_width = table.levels.shape[-1]
    tensors = dict(table.tensors)
    width = text_width * (1 if settings.tower_levels == "text" else table.levels.shape[1])
    tensors |= draw.perceptron("tower", width, dimensions, settings.tower_hidden)
    tensors["tower.gain"], tensors["tower.shift"] = torch.ones(dimensions), torch.zeros(dimensions)
    if config.media_dimensions:
        tensors |= draw.perceptron(
            "tower.media", config.media_dimensions, dimensions, settings.tower_hidden
        )
    of_text = tensors["tower.V"].view(dimensions, -1, text_width)[
        :, 0 if width == text_width else TEXT
    ]
    if settings.residual:
        tensors |= _residuals(texts, events, dimensions)
    if config.sequence is not None:
        reader = SequenceReader(config.sequence, dimensions)
        reader.initialise(draw.generator)
        tensors |= {f"reader.{name}": t.detach() for name, t in reader.state_dict().items()}
    tensors |= _projections(settings, config, draw, of_text, tensors.get("tower.media.V"))
    tensors |= _fusion(settings, config, draw)
    if moments is not None:
        searches = bool((events.types == TYPE_CODES[EventType.SEARCH]).any())
        tensors |= _context(draw, dimensions, moments, text_width if searches else 0)
    tensors |= _score(settings, events)
    return tensors


def _projections(
    settings: TrainingSettings,
    config: InterestConfig,
    draw: _Drawing,
    of_text: torch.Tensor,
    of_media: torch.Tensor | None,
) -> Tensors:
    """P_i: of what is read, nothing more at first; of what is pooled, the tower's straight part,
    so that a mean of texts, or of media, lies where those items lie."""
    read = ("paragraph", "document") if config.sequence is not None else ()
    if len(settings.granularities) == 1 and settings.granularities[0] in read:
        return {}  # the reader ends in a layer of its own: another one adds nothing
    tensors: Tensors = {}
    for name in settings.granularities:
        if name == MEDIA:
            assert of_media is not None
            pooled = of_media
        else:
            pooled = of_text
        width = settings.dimensions if name in read else pooled.shape[1]
        tensors |= draw.perceptron(name, width, settings.dimensions, settings.dimensions)
        tensors[f"{name}.W"].zero_()
        straight = torch.eye(width) if name in read else pooled.clone()
        tensors[f"{name}.V"] = straight
    return tensors


def _fusion(settings: TrainingSettings, config: InterestConfig, draw: _Drawing) -> Tensors:
    dimensions, parts = settings.dimensions, len(settings.granularities)
    tensors: Tensors = {}
    if config.fusion == "attention":
        tensors["attention.q"] = torch.zeros(dimensions)
    if config.fusion == "concat":
        blocks = [torch.eye(dimensions) / parts] * parts + [torch.eye(dimensions)]
        tensors["concat.F"] = torch.cat(blocks, dim=1)
    if settings.interests:
        # Alike they would stay: each looks in a direction of its own from the start.
        turned = draw.uniform(settings.interests, dimensions, dimensions)
        tensors["several.F"] = torch.eye(dimensions) + turned
    return tensors


def _context(draw: _Drawing, dimensions: int, moments: ContextMoments, query_width: int) -> Tensors:
    tensors = draw.perceptron("context", len(FEATURES), dimensions, _CONTEXT_HIDDEN, "d")
    tensors["context.W"].zero_()
    tensors["context.V"].zero_()
    deviation = moments.deviation
    # A feature that never changes says nothing, and must not once it does in the stream.
    scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, _LEAST_DEVIATION), 0.0)
    tensors["context.mean"] = torch.from_numpy(moments.mean.astype(np.float32))
    tensors["context.scale"] = torch.from_numpy(scale.astype(np.float32))
    if query_width:
        tensors["context.Q"] = torch.zeros(dimensions, query_width)
    return tensors


def _residuals(texts: Sequence[str], events: TrainingEvents, dimensions: int) -> Tensors:
    """One zero vector per text of an item that is met in training: what nobody meets would only
    learn that nobody does, and an item that is new to the catalogue cannot know that of itself."""
    items = np.unique(events.items[events.items >= 0])
    keys = sorted({residual_key(texts[item]) for item in items})
    held = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
    return {
        "residual.keys": torch.from_numpy(held.copy()),
        "residual.vectors": torch.zeros(len(keys), dimensions),
    }


def _score(settings: TrainingSettings, events: TrainingEvents) -> Tensors:
    labels = events.labels[events.is_target].astype(np.float64)
    scale, shift = _START_SCALE, 0.0
    if settings.loss == "binary":
        mean = min(max(float(labels.mean()), 1e-3), 1 - 1e-3)
        scale, shift = _BINARY_SCALE, math.log(mean / (1 - mean))
    if settings.loss == "squared_error":
        scale, shift = math.log(max(float(labels.std()), 1e-3)), float(labels.mean())
    return {"score.scale": torch.tensor(scale), "score.shift": torch.tensor(shift)}


class _Drawing:
    """Random tensors by one seed, in one order."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> torch.Tensor:
        """Deviation 0.58 / sqrt(inputs), as ``torch.nn.Linear`` has it."""
        bound = shape[-1] ** -0.5
        return torch.empty(*shape).uniform_(-bound, bound, generator=self.generator)

    def perceptron(
        self, prefix: str, width: int, dimensions: int, hidden: int, out_bias: str = "c"
    ) -> Tensors:
        return {
            f"{prefix}.U": self.uniform(hidden, width),
            f"{prefix}.b": torch.zeros(hidden),
            f"{prefix}.W": self.uniform(dimensions, hidden),
            f"{prefix}.V": self.uniform(dimensions, width),
            f"{prefix}.{out_bias}": torch.zeros(dimensions),
        }
