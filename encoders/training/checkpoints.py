"""Checkpoints: one file from which a run goes on as if it had never stopped.

A checkpoint is taken between epochs, and everything random in an epoch starts from the seed and the
epoch's number, so no state of a random generator need be kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors
import torch
from safetensors.torch import save_file

from encoders.errors import TrainingDataInvalid

FILE = "checkpoint.safetensors"
_STATE = "state"


class EpochReport(msgspec.Struct, frozen=True):
    """What one epoch gave."""

    epoch: int
    """From 0, those of masked events counted."""
    steps: int
    loss: float
    """Mean over the asked events of the epoch."""
    learning_rate: float
    """At its end."""
    seconds: float
    """Of its steps, without the evaluation."""
    masked: bool = False
    """Whether it was one of masked events."""
    metrics: dict[str, float] | None = None
    """Of the validation questions, where they were asked."""


class Progress(msgspec.Struct, frozen=True):
    """How far a run is."""

    fingerprint: str
    """Of settings and data: a checkpoint of others is not gone on with."""
    epochs_done: int = 0
    best_epoch: int = -1
    best_ndcg: float = -1.0
    history: tuple[EpochReport, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on. Tensors are by the names of the model's parameters."""

    progress: Progress
    weights: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]
    averaged: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for part in ("weights", "optimiser", "averaged", "best"):
        named: Mapping[str, torch.Tensor] = getattr(checkpoint, part)
        # Cloned, for two names of one tensor are refused.
        tensors |= {f"{part}/{name}": t.detach().cpu().clone() for name, t in named.items()}
    state = msgspec.json.encode(checkpoint.progress).decode()
    unfinished = folder / f".{FILE}.{os.getpid()}"
    save_file(tensors, unfinished, metadata={_STATE: state})
    unfinished.replace(folder / FILE)


def load(folder: Path, fingerprint: str) -> Checkpoint | None:
    """Return the checkpoint in ``folder``; None where there is none.

    Raises:
        TrainingDataInvalid: it is damaged, or of other settings or data.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    parts: dict[str, dict[str, torch.Tensor]] = {
        name: {} for name in ("weights", "optimiser", "averaged", "best")
    }
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            progress = msgspec.json.decode(file.metadata()[_STATE], type=Progress)
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part, _, own = name.partition("/")
                parts[part][own] = file.get_tensor(name)
    except (safetensors.SafetensorError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise TrainingDataInvalid(f"{path} is no checkpoint: {error}") from None
    if progress.fingerprint != fingerprint:
        raise TrainingDataInvalid(
            f"{path} is of other settings or data: train into another folder, or without resuming"
        )
    return Checkpoint(progress, **parts)
