"""One progress bar for everything that takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
