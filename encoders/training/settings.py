"""The settings of a training run: one frozen object, saved as ``training.json`` in the folder."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from encoders.config import Fusion
from encoders.errors import EncoderConfigInvalid
from encoders.interface import GRANULARITIES, MEDIA

Loss = Literal["cross_entropy", "binary", "squared_error"]
Negatives = Literal["all", "uniform", "in_batch"]
HoldOut = Literal["two", "one"]
TextTraining = Literal["frozen", "lora", "full"]
Target = Literal["dwell", "value"]

_DAY_MS = 86_400_000


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is trained. The defaults are those that served MovieLens-1M best."""

    schema_version: int = 1

    dimensions: int = 128
    """D of the vectors."""
    granularities: tuple[str, ...] = ("document",)
    """Which take part, equally weighted at the start."""
    fusion: Fusion = "weighted_mean"
    """How the granularities and the context become one vector."""
    context: bool = True
    """Whether event types, rhythm, dwell, hours and searches take part."""
    every_subset: bool = False
    """Whether a batch takes all granularities, all but one, or one alone, and the context or not,
    so that one model may be asked for each of these (``causal_pass.Subset``)."""
    layers: int = 2
    """Of the reader of sequences; 0: paragraph and document are weighted means as before."""
    heads: int = 2
    """Of the reader's attention; ``dimensions`` is a multiple."""
    residual: bool = False
    """Whether each item met in training learns a vector of its own beside its text's. A new item
    has none and goes by its text."""
    interests: int = 0
    """K vectors per user beside the one; 0: none."""
    tower_hidden: int = 512
    """Width of the bent branch of the item tower."""
    tower_levels: Literal["text", "all"] = "all"
    """What of an item's text the tower takes: the whole text's vector, or all three levels."""
    learn_salience: bool = False
    """Whether words' salience is learned; it needs the granularity word and holds the vectors of
    all tokens of the catalogue in memory."""

    loss: Loss = "cross_entropy"
    """cross_entropy: which item comes next; binary: whether the next item is bought;
    squared_error: a number that goes with the next item (``target``)."""
    negatives: Negatives = "all"
    """What cross-entropy compares the next item with: all items that anybody has met;
    ``negative_count`` of these, drawn uniformly, the same for the whole batch; or the other next
    items of the batch, corrected for their popularity (Yi et al. 2019, section 3.2)."""
    negative_count: int = 1_024
    """Of the uniform ones."""
    target: Target = "dwell"
    """Of squared_error: the logarithm of 1 + dwell seconds, or a number beside the events."""
    repeats: bool = False
    """Whether an item that the user has met before counts as a next item of cross_entropy; the
    evaluation never asks for one. For the other losses it always counts: what is bought was often
    looked at before."""

    epochs: int = 20
    """At most: see ``patience``."""
    batch_windows: int = 128
    """Windows per step and accumulation."""
    accumulation: int = 1
    """Batches whose gradients are added up before a step."""
    learning_rate: float = 1e-3
    """At its highest."""
    weight_decay: float = 0.01
    """Of matrices only; gains, shifts and biases are left alone."""
    warm_up_steps: int = 200
    """The rate rises linearly over these, then falls to zero as a cosine."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it; 0: never."""
    dropout: float = 0.2
    """Of the reader."""
    tower_dropout: float = 0.2
    """Of the tower's bent branch."""
    residual_dropout: float = 0.0
    """Share of items that go without their residual in a step."""
    averaging: float = 0.0
    """What is kept per step of an exponential mean of the weights, which is then what is evaluated
    and saved; 0: no mean."""
    patience: int = 4
    """Evaluations without a better NDCG@10 after which training stops; 0: never early."""
    evaluate_every: int = 1
    """Epochs between evaluations."""
    validation_users: int = 0
    """So many users are asked in an evaluation, drawn by the seed; 0: all."""
    seed: int = 0
    """Of weights, order, dropout and drawn items."""

    pretrain_epochs: int = 0
    """Epochs of masked-event training (BERT4Rec, arXiv:1904.06690, section 3.6) before the rest."""
    masked_share: float = 0.2
    """Of a window's events that are hidden in these."""
    text: TextTraining = "frozen"
    """Whether the text model is trained, too: not at all, by low-rank additions, or wholly."""
    text_learning_rate: float | None = None
    """Of the text model, at its highest, beside ``learning_rate`` of all else; None: what
    ``text_rate`` says."""
    text_items: int = 256
    """Texts per step that the text model learns from; the others are those of the last epoch."""
    lora_rank: int = 8
    """Of the low-rank additions."""

    hold_out: HoldOut = "two"
    """two: each user's last new item is never looked at (it is the evaluation's question) and the
    one before it is the validation's. one: the last is the validation's: for a model that goes to
    work and need not be compared."""
    until_ms: int = 0
    """Events from this time on are not looked at, so that the prequential protocol can ask for
    them; 0: all are."""
    split_seed: int = 0
    """Decides the order of events of the same time, as the evaluation's own seed does."""
    window_events: int = 50
    """As the worker's windows: ``window_max_events``."""
    window_age_ms: int = 30 * _DAY_MS
    """``window_max_age_ms`` of the worker."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast, on a GPU only."""

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("dimensions", "tower_hidden", "negative_count", "epochs", "batch_windows",
                     "accumulation", "evaluate_every", "lora_rank", "text_items", "heads",
                     "window_age_ms"):  # fmt: skip
            _check(self, name, least=1)
        for name in ("layers", "interests", "warm_up_steps", "clip_norm", "weight_decay",
                     "patience", "validation_users", "seed", "pretrain_epochs", "until_ms",
                     "split_seed"):  # fmt: skip
            _check(self, name, least=0)
        _check(self, "window_events", least=2)
        for name in ("dropout", "tower_dropout", "residual_dropout", "averaging", "masked_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise _wrong(name, getattr(self, name), "at least 0 and below 1")
        for name in ("learning_rate", "text_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise _wrong(name, value, "at least 0 and below 1")
        _check_together(self)

    @property
    def text_rate(self) -> float:
        """The text model's own learning rate. Unless it is said: 5e-5 for all of its weights, as
        BERT is fine-tuned (Devlin et al. 2019, appendix A.3), and ten times as much for low-rank
        additions, which start at zero and are few."""
        if self.text_learning_rate is not None:
            return self.text_learning_rate
        return 5e-4 if self.text == "lora" else 5e-5


def _check_choices(settings: TrainingSettings) -> None:
    choices = {
        "fusion": Fusion, "loss": Loss, "negatives": Negatives, "target": Target,
        "hold_out": HoldOut, "text": TextTraining,
        "tower_levels": Literal["text", "all"], "precision": Literal["fp32", "bf16"],
    }  # fmt: skip
    for name, choice in choices.items():
        if getattr(settings, name) not in get_args(choice):
            raise _wrong(name, getattr(settings, name), "one of " + ", ".join(get_args(choice)))
    allowed = (*GRANULARITIES, MEDIA)
    unknown = [name for name in settings.granularities if name not in allowed]
    if unknown or not settings.granularities:
        named = unknown[0] if unknown else "empty"
        raise _wrong("granularities", named, "some of " + ", ".join(allowed))


def _check_together(settings: TrainingSettings) -> None:
    if settings.layers and settings.dimensions % settings.heads:
        raise _wrong("dimensions", settings.dimensions, f"a multiple of heads ({settings.heads})")
    if settings.every_subset and len(settings.granularities) == 1 and not settings.context:
        raise _wrong("every_subset", True, "off where there is one granularity and no context")
    if settings.learn_salience and "word" not in settings.granularities:
        raise _wrong("learn_salience", True, "off, or have word among the granularities")
    if settings.learn_salience and settings.text != "frozen":
        raise _wrong(
            "learn_salience", True, f"off where the text model is trained ({settings.text})"
        )
    if settings.pretrain_epochs and not settings.layers:
        raise _wrong("pretrain_epochs", settings.pretrain_epochs, "0 where there are no layers")


def _check(settings: TrainingSettings, name: str, least: int) -> None:
    value = getattr(settings, name)
    if not least <= value < float("inf"):
        raise _wrong(name, value, f"at least {least}")


def _wrong(name: str, found: object, allowed: str) -> EncoderConfigInvalid:
    return EncoderConfigInvalid(f"training: {name} is {found}, must be {allowed}")
