"""One progress bar for everything that takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LINE_EVERY_S = 5.0


@contextmanager
def progress_bar(
    what: str, total: int | None, *, shown: bool
) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error where somebody looks.

    Yields what moves it: a function of how much is done and of how much there is in all.
    """
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        console=console,
        disable=not shown or not console.is_terminal,
    )
    task = bar.add_task(what, total=total)
    with bar:
        yield lambda done, in_all: bar.update(task, completed=done, total=in_all)


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show one bar after the other on standard error, for work in many parts.

    Yields what begins a part: a function of its name that gives the one that moves its bar.
    """
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    bars = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        console=console,
        disable=not shown or not console.is_terminal,
    )

    def begin(what: str) -> Callable[[int, int], None]:
        task = bars.add_task(what, total=None)
        return lambda done, in_all: bars.update(task, completed=done, total=in_all)

    with bars:
        yield begin


@contextmanager
def progress_with_eta(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with speed and time left on standard error; without a terminal, a line now and
    then.

    Yields what moves it: a function of how much is done and of how much there is in all. What is
    done at its first call was done before, and does not count for the speed.
    """
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield Lines(what, shown=shown).move
        return
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]:,.0f}/s"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[left]}"),
        console=console,
    )
    task = bar.add_task(what, total=None, rate=0.0, left="")
    pace = Pace()

    def move(done: int, total: int) -> None:
        rate = pace.rate(time.monotonic(), done)
        bar.update(task, completed=done, total=total, rate=rate, left=left(done, total, rate))

    with bar:
        yield move


class Pace:
    """How fast something goes, from its first progress on: what went before is starting up."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def rate(self, now_s: float, done: int) -> float:
        """Return how much is done per second, 0 while that cannot be told."""
        if self._start is None or done == self._start[1]:
            self._start = (now_s, done)
            return 0.0
        since_s, before = self._start
        return (done - before) / max(now_s - since_s, 1e-9)


class Lines:
    """Progress for a log file: a line every few seconds."""

    def __init__(self, what: str, *, shown: bool) -> None:
        self._what = what
        self._shown = shown
        self._pace = Pace()
        self._said_at = float("-inf")

    def move(self, done: int, total: int) -> None:
        """Say how far it is, if it is time."""
        now_s = time.monotonic()
        rate = self._pace.rate(now_s, done)
        if not self._shown or (now_s - self._said_at < _LINE_EVERY_S and done < total):
            return
        self._said_at = now_s
        share = 100 * done // total if total else 100
        line = f"{self._what}: {done:,} of {total:,} ({share} %), {rate:,.0f}/s"
        sys.stderr.write(f"{line}, {left(done, total, rate)}\n")
        sys.stderr.flush()


def left(done: int, total: int, rate: float) -> str:
    """Return how long the rest takes at this rate.

    >>> left(40, 100, 0.5)
    '2:00 left'
    """
    if done >= total:
        return "done"
    if rate <= 0:
        return "time left not known yet"
    minutes, seconds = divmod(round((total - done) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{clock} left"
