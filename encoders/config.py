"""Frozen settings: of an encoder (where and how it runs) and of an interest model (what it is)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from encoders.errors import EncoderConfigInvalid
from encoders.interface import GRANULARITIES, MEDIA
from state.event import TYPE_CODES

Fusion = Literal["add", "weighted_mean", "attention", "concat"]
TowerActivation = Literal["gelu", "tanh"]
TextPooling = Literal["auto", "mean", "cls", "last"]
VectorFormat = Literal["float32", "float16"]


@dataclass(frozen=True)
class EncoderConfig:
    """Where an encoder finds its models and what it may use. Nothing here changes a vector's
    meaning but ``kind``, the models, ``max_text_tokens``, ``text_pooling``, ``vectors`` and
    ``stub_dimensions``."""

    kind: Literal["transformer", "stub"] = "transformer"
    text_model: str = ""
    """Folder or hub id; empty or ``minilm``: the packaged MiniLM (``packaged_minilm``)."""
    interest_model: str = ""
    """Folder of an interest model; empty: untrained, centre zero, uniform salience."""
    model: str = ""
    """Folder of a bundle (``encoders.model_bundle``), which brings both models, ``text_pooling``,
    ``max_text_tokens`` and ``vectors``; empty: those stand here."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    """Threads of torch, for the whole process: an encoder lives in a process of its own."""
    token_budget: int = 0
    """Most tokens in one forward pass; 0: 1,024 on a CPU (its caches), 32,768 on a GPU."""
    max_text_tokens: int = 256
    """Longer texts are cut; a model with fewer positions cuts earlier."""
    text_pooling: TextPooling = "auto"
    """How the text vector is made; auto: as the model's own sentence-transformers files say, else
    the mean for bidirectional models and the last token for causal ones."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast on a GPU; on a CPU it is refused, for oneDNN's fp32 is what was tested."""
    vectors: VectorFormat = "float32"
    """How vectors are kept and published: float16 halves the slab, the cache and an update's
    vector, and rounds them to 11 bits. Sums and products are float32 either way."""
    slab_rows: int = 65_536
    """Texts whose vectors are kept in memory: slab_rows * 3 * T * 4 bytes (2 in float16), taken as
    rows fill."""
    cache_dir: str = ""
    """Folder of the text-vector cache on disk; empty: none."""
    cache_max_bytes: int = 1 << 30
    stub_dimensions: int = 32

    def __post_init__(self) -> None:
        for name in ("threads", "max_text_tokens", "slab_rows", "cache_max_bytes"):
            if getattr(self, name) < 1:
                raise EncoderConfigInvalid(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.token_budget < 0:
            raise EncoderConfigInvalid(f"token_budget must be 0 or more, is {self.token_budget}")
        if self.stub_dimensions < 2:
            raise EncoderConfigInvalid(
                f"stub_dimensions must be at least 2, is {self.stub_dimensions}"
            )
        if self.kind not in ("transformer", "stub"):
            raise EncoderConfigInvalid(f"kind must be transformer or stub, is {self.kind!r}")
        if self.model and (self.text_model or self.interest_model):
            raise EncoderConfigInvalid(
                f"model is {self.model}, a bundle, which brings a text model and an interest "
                "model: leave text_model and interest_model empty"
            )
        if self.vectors not in ("float32", "float16"):
            raise EncoderConfigInvalid(f"vectors must be float32 or float16, is {self.vectors!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise EncoderConfigInvalid(f"device must be auto, cpu or cuda, is {self.device!r}")


def _default_weights() -> dict[str, float]:
    return dict(zip(GRANULARITIES, (0.0, 0.0, 0.0, 1.0), strict=True))


def _default_type_weights() -> dict[str, float]:
    return {kind.value: 1.0 for kind in TYPE_CODES}


class SequenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The transformer that reads a window (document) or a session (paragraph) in order."""

    layers: int = 2
    heads: int = 2
    positions: int = 50
    """Events it looks back at, the newest ones: as many as a window holds by default."""
    hidden: int = 512
    """Width of the feed-forward part: four times the default 128 dimensions, as is usual."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "positions", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"sequence: {name} must be at least 1, is {getattr(self, name)}")


class InterestConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an interest model says of a window; saved as ``interest.json`` beside its tensors."""

    schema_version: int = 1
    dimensions: int = 0
    """D of the vectors; 0: as many as the text model has (untrained it must be so)."""
    weights: dict[str, float] = msgspec.field(default_factory=_default_weights)
    """Weight of each granularity in the fusion; 0 leaves it out. The document alone is the default:
    the mixes tried on MovieLens-1M lie within its noise, and one is pooled faster than four."""
    fusion: Fusion = "weighted_mean"
    """add: sum of weighted granularities and context; weighted_mean: their mean, and context;
    attention: softmax over granularities of log weight + query . P_i / sqrt(D), and context;
    concat: one projection of all of them and the context. Untrained, all four point the same way.
    """
    rank_half_life_events: float = 3.0
    """An event this many places behind the newest counts half; 0: rank does not matter. Chosen on
    MovieLens-1M's validation events: R@10 .0641, against .0626 at 2, .0623 at 4, .0588 at 6.6."""
    time_half_life_ms: int = 0
    """An event this much older than the newest counts half; 0: time does not matter."""
    event_type_weights: dict[str, float] = msgspec.field(default_factory=_default_type_weights)
    session_gap_ms: int = 1_800_000
    """A longer gap starts a new session: 30 minutes, the web analytics convention."""
    context: bool = True
    """Whether context takes part. Untrained it adds exactly zero."""
    text_model_id: str = ""
    """Content hash of the text model this was made for; empty: any of the same dimensions."""
    media_dimensions: int = 0
    """Numbers of the vector that an item may bring beside its text; 0: none is taken. Where it is
    taken, the item tower adds it, and ``media`` is one more granularity."""
    window_max_events: int = 0
    """Of the windows it was trained on, as ``window_max_age_ms``; 0: untrained, any will do."""
    window_max_age_ms: int = 0
    tower_activation: TowerActivation | msgspec.UnsetType = msgspec.UNSET
    """What the item tower bends with. Training writes it; it is left out of the file where there is
    no tower, and was before there were two to tell apart (``interest_folder`` sees to those)."""
    every_subset: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether training went through each granularity alone, each left out, and all, with the
    context and without: all of these may be asked of it. Left out of the file where it did not."""
    sequence: SequenceConfig | None = None
    """How paragraph and document read their events; none: as a weighted mean, order but for
    recency aside, which is what it is before training."""

    def __post_init__(self) -> None:
        _check_weights("weights", self.weights, frozenset(self.granularities))
        _check_weights(
            "event_type_weights", self.event_type_weights, frozenset(k.value for k in TYPE_CODES)
        )
        if not any(self.weights.values()):
            raise ValueError("weights: at least one granularity needs a weight above 0")
        for name in (
            "dimensions", "rank_half_life_events", "time_half_life_ms", "media_dimensions"
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, is {getattr(self, name)}")
        if self.session_gap_ms < 1:
            raise ValueError(f"session_gap_ms must be at least 1, is {self.session_gap_ms}")
        if self.sequence is not None and self.dimensions % self.sequence.heads:
            raise ValueError(
                f"dimensions ({self.dimensions}) must be a multiple of the sequence's heads "
                f"({self.sequence.heads})"
            )

    @property
    def granularities(self) -> tuple[str, ...]:
        """Those that a weight can be given to."""
        return (*GRANULARITIES, MEDIA) if self.media_dimensions else GRANULARITIES

    @property
    def active(self) -> tuple[str, ...]:
        """Those that take part in the fusion."""
        return tuple(name for name in self.granularities if self.weights.get(name, 0.0) > 0.0)

    def shares(self) -> tuple[float, ...]:
        """Return the granularity weights scaled to sum 1, in the order of ``granularities``."""
        total = sum(self.weights.values())
        return tuple(self.weights.get(name, 0.0) / total for name in self.granularities)


def _check_weights(field_name: str, weights: dict[str, float], known: frozenset[str]) -> None:
    unknown = sorted(set(weights) - known)
    if unknown:
        raise ValueError(f"{field_name}: {unknown[0]!r} is none of {', '.join(sorted(known))}")
    for name, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"{field_name}: {name} must be 0 or more, is {weight}")
