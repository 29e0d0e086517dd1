"""A smaller text model learns a larger one's vectors, on the texts it will meet.

Legend: N texts of a batch, S their tokens, T dimensions of both models. ::

    loss = mean over word, sentence and text vectors of
           (1 - cos(s, t)) + (1 - cos(s - m, t - m))          m: the teacher's mean over the texts

Vectors have unit length, so 1 - cos is half the squared distance: the first term is the mean
squared error of Reimers & Gurevych (2020, multilingual distillation) and the cosine loss in one.
Catalogues are narrow, so all texts lie close to their mean and the first term alone is soon small;
the second is about what tells them apart, which is what an interest model reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from encoders.errors import EncoderConfigInvalid
from encoders.interface import Float32, Int64
from encoders.text_encoder import TextEncoder, pool_tokens
from encoders.tokens import TokenisedText

_HELD_OUT = 20
"""One text in so many is not taught, and tells what was learned."""
_LEAST_TEXTS = 2 * _HELD_OUT
_WARM_UP = 0.1
_CLIP_NORM = 1.0
_TEACH_AT_ONCE = 256

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


@dataclass(frozen=True)
class DistillationPlan:
    """How the student is taught."""

    epochs: int = 10
    batch_texts: int = 32
    learning_rate: float = 2e-4
    """At its highest. AdamW; warm-up over a tenth of the steps, then cosine down to zero."""
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_texts"):
            if getattr(self, name) < 1:
                raise EncoderConfigInvalid(
                    f"distillation: {name} must be at least 1, is {getattr(self, name)}"
                )
        if not 0.0 < self.learning_rate < 1.0:
            raise EncoderConfigInvalid(
                f"distillation: learning_rate must be above 0 and below 1, is {self.learning_rate}"
            )


@dataclass(frozen=True)
class Lesson:
    """Texts as the student reads them, and the vectors they should have."""

    texts: Sequence[TokenisedText]
    vectors: Float32
    """[N, 3, T] the teacher's."""


def distil(
    student: TextEncoder,
    teacher: TextEncoder,
    texts: Sequence[str],
    plan: DistillationPlan,
    progress: Progress | None = None,
) -> float:
    """Teach ``student``'s model in place; return its mean cosine to the teacher on texts held out.

    Word embeddings stay: most words are in no text of a catalogue, and a model whose rare words
    alone had not moved along would read them wrongly.

    Raises:
        EncoderConfigInvalid: the models' dimensions differ, there are too few texts, or the loss
            is not a number any more.
    """
    if student.dimensions != teacher.dimensions:
        raise EncoderConfigInvalid(
            f"the student has {student.dimensions} dimensions, its teacher {teacher.dimensions}: "
            "choose a teacher of the same, or crop the teacher"
        )
    lesson, held_out = lessons(student, teacher, texts, plan.seed)
    model = student.model
    model.requires_grad_(True)
    model.get_input_embeddings().requires_grad_(False)
    # No dropout: the vectors to be learned are exact, and few steps are taken.
    model.train(False)
    taught = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(taught, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    batches = math.ceil(len(lesson.texts) / plan.batch_texts)
    steps = plan.epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    mean = torch.from_numpy(lesson.vectors.mean(axis=0)).to(student.device)
    random = np.random.default_rng(plan.seed)
    done = 0
    for _ in range(plan.epochs):
        order = random.permutation(len(lesson.texts))
        for start in range(0, len(order), plan.batch_texts):
            places = order[start : start + plan.batch_texts]
            optimiser.zero_grad(set_to_none=True)
            loss = _loss(student, lesson, places, mean)
            if not torch.isfinite(loss):
                raise EncoderConfigInvalid(
                    f"distillation: the loss is not a number after {done} of {steps} steps: "
                    f"try a learning_rate below {plan.learning_rate:g}"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(taught, _CLIP_NORM)
            optimiser.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress(done, steps)
    model.requires_grad_(False)
    return _cosine(student, held_out, plan.batch_texts)


def lessons(
    student: TextEncoder, teacher: TextEncoder, texts: Sequence[str], seed: int
) -> tuple[Lesson, Lesson]:
    """Return what is taught and what is held out, each text once; the order does not matter.

    Raises:
        EncoderConfigInvalid: fewer than 40 texts can be read by both.
    """
    different = sorted({text for text in texts if text.strip()})
    tokenised, _, _ = student.tokenise(different)
    vectors = np.zeros((len(different), 3, teacher.dimensions), dtype=np.float32)
    readable = []
    for start in range(0, len(different), _TEACH_AT_ONCE):
        told = teacher.encode(different[start : start + _TEACH_AT_ONCE])
        vectors[start : start + len(told.vectors)] = told.vectors
        readable += [
            start + place
            for place in range(len(told.vectors))
            if place not in told.failed and place not in told.empty and start + place in tokenised
        ]
    if len(readable) < _LEAST_TEXTS:
        raise EncoderConfigInvalid(
            f"distillation needs at least {_LEAST_TEXTS} different texts, there are {len(readable)}"
        )
    order = np.random.default_rng(seed).permutation(np.array(readable))
    held = len(order) // _HELD_OUT
    parts = order[held:], order[:held]
    taught, held_out = (Lesson([tokenised[at] for at in part], vectors[part]) for part in parts)
    return taught, held_out


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at ``step``: up in a line, down along a cosine."""
    warm_up = max(1, int(steps * _WARM_UP))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _loss(student: TextEncoder, lesson: Lesson, places: Int64, mean: torch.Tensor) -> torch.Tensor:
    ours = vectors_of(student, [lesson.texts[place] for place in places])
    theirs = torch.from_numpy(lesson.vectors[places]).to(ours.device)
    plain = functional.cosine_similarity(ours, theirs, dim=2)
    centred = functional.cosine_similarity(ours - mean, theirs - mean, dim=2)
    return (1.0 - plain).mean() + (1.0 - centred).mean()


def _cosine(student: TextEncoder, lesson: Lesson, batch_texts: int) -> float:
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(lesson.texts), batch_texts):
            ours = vectors_of(student, lesson.texts[start : start + batch_texts])
            theirs = torch.from_numpy(lesson.vectors[start : start + batch_texts]).to(ours.device)
            total += float((ours * theirs).sum(dim=2).mean(dim=1).sum())
    return total / len(lesson.texts)


def vectors_of(encoder: TextEncoder, texts: Sequence[TokenisedText]) -> torch.Tensor:
    """Return [N, 3, T] of the model as it is now, with gradients where they are wanted.

    One padded batch: serving computes otherwise, for its vectors may not depend on the batch.
    """
    longest = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, text in enumerate(texts):
        ids[place, : len(text.ids)] = torch.from_numpy(text.ids)
        mask[place, : len(text.ids)] = 1
    ids, mask = ids.to(encoder.device), mask.to(encoder.device)
    hidden = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
    return pool_tokens(hidden[mask.bool()], texts)
