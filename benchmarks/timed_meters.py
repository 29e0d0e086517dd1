"""The worker's command with a clock on all that is done for ``/metrics`` alone.

For ``benchmarks.metrics_cost``: at the end, the CPU seconds lie in ``METERING_FILE``.
"""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from stream_app import intake
from stream_app.cli import main
from stream_app.meters import Histogram, Meters
from stream_app.serving import operations

METERING_FILE = "METERING_FILE"

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """Adds up the CPU time of what runs under it; what it calls is in it once."""

    def __init__(self) -> None:
        self.spent_ns = 0
        self._running = False

    def on(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function, timed."""

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            if self._running:
                return function(*args, **kwargs)
            self._running = True
            began_ns = time.thread_time_ns()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent_ns += time.thread_time_ns() - began_ns
                self._running = False

        return timed


def put_on(clock: Clock) -> None:
    """Time everything that is done for metrics, but the addition in the fold's own loop."""
    intake.arrivals = clock.on(intake.arrivals)  # type: ignore[attr-defined]
    operations.generate_latest = clock.on(operations.generate_latest)  # type: ignore[attr-defined]
    Histogram.observe = clock.on(Histogram.observe)  # type: ignore[method-assign]
    for name in ("folded", "published", "buried", "encoder_answered"):
        setattr(Meters, name, clock.on(getattr(Meters, name)))


if __name__ == "__main__":
    clock = Clock()
    put_on(clock)
    file = Path(os.environ[METERING_FILE])
    atexit.register(lambda: file.write_text(str(clock.spent_ns / 1e9)))
    main()
