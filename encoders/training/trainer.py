"""The loop: epochs of steps, an evaluation now and then, a checkpoint after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import torch

from encoders.errors import TrainingDiverged
from encoders.evaluation.ranking import Result, seen_items
from encoders.evaluation.splits import Questions
from encoders.training import checkpoints
from encoders.training.causal_pass import CausalPass, Subset
from encoders.training.checkpoints import Checkpoint, EpochReport, Progress
from encoders.training.events import Bools, Stretches, TrainingEvents, grouped
from encoders.training.losses import candidates, loss_sum
from encoders.training.optimiser import Optimiser
from encoders.training.settings import TrainingSettings
from encoders.training.validation import ask_model
from encoders.training.windows import Batch, batch_of, masked_batch_of
from state.window import WindowPolicy

METRICS = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "mrr@10", "auc")
_MAIN = "ndcg@10"


class Journal(Protocol):
    """Who is told how a run goes."""

    def bar(self, what: str) -> Callable[[int, int], None]:
        """Begin a piece of work; return what is told how much of it is done."""

    def step(self, number: int, loss: float, rate: float) -> None:
        """Take note of a step: the mean loss of its events, and its learning rate."""

    def epoch(self, report: EpochReport) -> None:
        """Take note of an epoch."""


@dataclass(frozen=True)
class Task:
    """What is to be learned, and what tells how well."""

    settings: TrainingSettings
    events: TrainingEvents
    popularity: np.ndarray
    """[N] how often each item is asked for in training."""
    questions: Questions
    """The validation's."""
    known: Bools
    """[R] whether a text has a vector."""
    fingerprint: str
    folder: Path
    """Of the checkpoint."""


class Trainer:
    """Trains the model of a ``CausalPass`` and leaves its best weights in it."""

    def __init__(self, task: Task, model: CausalPass, journal: Journal) -> None:
        self._task = task
        self._settings = task.settings
        self._pass = model
        self._journal = journal
        self._optimiser = Optimiser(model.named_parameters(), task.settings)
        self._seen = seen_items(task.questions)
        self._best: dict[str, torch.Tensor] = {}
        self.progress = Progress(task.fingerprint)

    def resume(self) -> bool:
        """Go on from the checkpoint in the task's folder; return whether there is one.

        Raises:
            TrainingDataInvalid: it is of another run.
        """
        found = checkpoints.load(self._task.folder, self._task.fingerprint)
        if found is None:
            return False
        self._optimiser.use({k: v.to(self._pass.device) for k, v in found.weights.items()})
        self._optimiser.restore(found.optimiser, found.averaged)
        self._best = found.best
        self.progress = found.progress
        return True

    def run(self) -> Progress:
        """Train to the end, or until the validation has not been better for long.

        Raises:
            TrainingDiverged: the loss is not a number any more.
        """
        total = self._settings.pretrain_epochs + self._settings.epochs
        while self.progress.epochs_done < total and not self._is_stale():
            self._epoch(self.progress.epochs_done)
            self._save()
        if self._best:
            self._optimiser.use({k: v.to(self._pass.device) for k, v in self._best.items()})
        self._pass.model.eval()
        return self.progress

    def _is_stale(self) -> bool:
        since = self.progress.epochs_done - 1 - self.progress.best_epoch
        patience = self._settings.patience * self._settings.evaluate_every
        return bool(patience) and self.progress.best_epoch >= 0 and since >= patience

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        settings = self._settings
        masked = epoch < settings.pretrain_epochs
        # Everything random in an epoch follows from these two numbers: see ``checkpoints``.
        generator = np.random.default_rng((settings.seed, epoch))
        torch.manual_seed(int(generator.integers(2**62)))
        self._pass.texts.refresh()
        events = self._task.events.shuffled(generator)
        batches = events.batches(settings, generator, unasked=masked)
        steps = list(grouped(batches, settings.accumulation))
        self._pass.model.train()
        total, asked, rate = 0.0, 0, 0.0
        before = sum(report.steps for report in self.progress.history if report.masked == masked)
        first, planned = (0, settings.pretrain_epochs) if masked else (
            settings.pretrain_epochs, settings.epochs
        )  # fmt: skip
        what = "masked events, epoch" if masked else "epoch"
        show = self._journal.bar(f"{what} {epoch - first + 1}/{planned}")
        for number, stretches in enumerate(steps):
            parts = [self._batch(events, part, generator, masked=masked) for part in stretches]
            loss, count = self._gradients(parts, generator, epoch, masked=masked)
            share_done = (epoch - first + number / len(steps)) / planned
            rate = self._optimiser.step(before + number, share_done)
            total, asked = total + loss, asked + count
            self._journal.step(self._steps_done() + number, loss / max(count, 1), rate)
            show(number + 1, len(steps))
        seconds = time.perf_counter() - started
        report = EpochReport(epoch, len(steps), total / max(asked, 1), rate, seconds, masked)
        self._take_note(report if masked else self._evaluated(report))

    def _steps_done(self) -> int:
        return sum(report.steps for report in self.progress.history)

    def _batch(
        self,
        events: TrainingEvents,
        stretches: Stretches,
        generator: np.random.Generator,
        *,
        masked: bool,
    ) -> Batch:
        if masked:
            return masked_batch_of(events, stretches, self._settings.masked_share, generator)
        rules = self._pass.rules
        return batch_of(events, stretches, rules.session_gap_ms, context=rules.context)

    def _gradients(
        self, batches: list[Batch], generator: np.random.Generator, epoch: int, *, masked: bool
    ) -> tuple[float, int]:
        """Add up the gradients of one step; return the sum of its loss and its asked events."""
        count = sum(len(batch.items) for batch in batches)
        total = 0.0
        for batch in batches:
            if not len(batch.items):
                continue
            with autocast(self._pass.device, self._settings):
                loss = self._loss(batch, generator, masked=masked)
            (loss / count).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not np.isfinite(total):
            raise TrainingDiverged(
                f"the loss is {total} in epoch {epoch + 1}: lower learning_rate "
                f"({self._settings.learning_rate}) or clip_norm ({self._settings.clip_norm})"
            )
        return total, count

    def _loss(self, batch: Batch, generator: np.random.Generator, *, masked: bool) -> torch.Tensor:
        settings, device = self._settings, self._pass.device
        if masked:
            settings = msgspec.structs.replace(settings, loss="cross_entropy")
        drawn = candidates(settings, batch.items, self._task.popularity, generator, device)
        compared = settings.loss == "cross_entropy"
        wanted = [batch.windows.rows.ravel(), batch.items, *([drawn.items] if compared else [])]
        rows = np.unique(np.concatenate(wanted))
        self._pass.texts.begin_step(rows, generator)
        towers = self._pass.towers(rows)
        if masked:
            vectors = self._pass.hidden(batch.windows, towers)
        else:
            every = settings.every_subset
            subset = Subset.drawn(self._pass.model, generator) if every else None
            vectors = self._pass.users(batch.windows, towers, subset)
        among = drawn.items if compared else batch.items[:0]
        return loss_sum(
            settings,
            self._pass.model,
            vectors,
            towers.vectors,
            towers.places(batch.items, device),
            torch.from_numpy(batch.labels).to(device),
            towers.places(among, device),
            drawn,
        )

    def _evaluated(self, report: EpochReport) -> EpochReport:
        done = report.epoch + 1 - self._settings.pretrain_epochs
        if done % self._settings.evaluate_every and done != self._settings.epochs:
            return report
        with self._averaged_weights():
            result = self.ask(self._task.questions, self._seen)
        metrics = {name: float(result.values[name].mean()) for name in METRICS}
        return msgspec.structs.replace(report, metrics=metrics)

    def ask(self, questions: Questions, seen: list[np.ndarray]) -> Result:
        """Return how well the model as it is ranks the targets of ``questions``."""
        settings = self._settings
        policy = WindowPolicy(settings.window_events, settings.window_age_ms)
        self._pass.texts.refresh()
        show = self._journal.bar("evaluation")
        return ask_model(self._pass, questions, self._task.known, policy, seen, show)

    def _take_note(self, report: EpochReport) -> None:
        progress = self.progress
        best_epoch, best_ndcg = progress.best_epoch, progress.best_ndcg
        if report.metrics is not None and report.metrics[_MAIN] > best_ndcg:
            best_epoch, best_ndcg = report.epoch, report.metrics[_MAIN]
            kept = self._optimiser.averaged or self._optimiser.weights()
            self._best = {name: value.cpu().clone() for name, value in kept.items()}
        self.progress = Progress(
            progress.fingerprint,
            report.epoch + 1,
            best_epoch,
            best_ndcg,
            (*progress.history, report),
        )
        self._journal.epoch(report)

    def _save(self) -> None:
        optimiser = self._optimiser
        checkpoints.save(
            self._task.folder,
            Checkpoint(
                self.progress,
                optimiser.weights(),
                optimiser.state(),
                optimiser.averaged,
                self._best,
            ),
        )

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The running mean in the weights' place, while it is evaluated."""
        if not self._optimiser.averaged:
            yield
            return
        own = self._optimiser.weights()
        self._optimiser.use(self._optimiser.averaged)
        try:
            yield
        finally:
            self._optimiser.use(own)


def autocast(device: torch.device, settings: TrainingSettings) -> torch.autocast:
    """Mixed precision where the settings ask for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
