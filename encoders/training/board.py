"""What a run says while it goes, in TensorBoard's format."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from encoders.errors import EncoderConfigInvalid
from encoders.training.checkpoints import EpochReport


class Board:
    """Writes losses, rates and metrics to event files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises EncoderConfigInvalid where tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise EncoderConfigInvalid(
                "tensorboard is not installed: install interest-stream[training], or go without"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def step(self, number: int, loss: float, rate: float) -> None:
        """Write a step's mean loss and learning rate."""
        self._scalar("train/loss", loss, number)
        self._scalar("train/learning_rate", rate, number)

    def epoch(self, report: EpochReport) -> None:
        """Write an epoch's mean loss and, where it was evaluated, the metrics."""
        self._scalar("epoch/loss", report.loss, report.epoch + 1)
        for name, value in (report.metrics or {}).items():
            self._scalar(f"validation/{name}", value, report.epoch + 1)

    def _scalar(self, name: str, value: float, at: int) -> None:
        self._writer.add_scalar(name, value, at)
