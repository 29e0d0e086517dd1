"""A training run as a person sees it: a bar for what is under way, a line per epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stream_app.cli.progress import progress_bar

if TYPE_CHECKING:
    from encoders.training.checkpoints import EpochReport

_SHOWN = ("recall@10", "ndcg@10")


class TrainingView:
    """The journal of a run: bars and lines on standard error, event files for TensorBoard."""

    def __init__(self, board_folder: Path | None, *, shown: bool) -> None:
        self._shown = shown
        self._bars = ExitStack()
        self._boards = ExitStack()
        self._board = None
        if board_folder is not None:
            # It says where it writes in a line of its own, at a level nobody asked for.
            logging.getLogger("tensorboard").setLevel(logging.ERROR)
            from encoders.training.board import Board

            self._board = self._boards.enter_context(Board(board_folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.close()
        self._boards.close()

    def bar(self, what: str) -> Callable[[int, int], None]:
        """See ``Journal``: one bar at a time, the last one stays as it is."""
        self._bars.close()
        return self._bars.enter_context(progress_bar(what, None, shown=self._shown))

    def step(self, number: int, loss: float, rate: float) -> None:
        """See ``Journal``."""
        if self._board:
            self._board.step(number, loss, rate)

    def epoch(self, report: EpochReport) -> None:
        """See ``Journal``."""
        self._bars.close()
        if self._board:
            self._board.epoch(report)
        if self._shown:
            metrics = report.metrics or {}
            told = "".join(f"  {name} {metrics[name]:.4f}" for name in _SHOWN if name in metrics)
            what = "masked epoch" if report.masked else "epoch"
            line = f"{what} {report.epoch + 1:3d}  loss {report.loss:.4f}{told}"
            print(f"{line}  {report.seconds:.0f} s", flush=True)
