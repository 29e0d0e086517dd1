"""The worker's command without metering, for ``benchmarks.metrics_cost`` to compare with."""

from __future__ import annotations

from stream_app import intake
from stream_app.cli import main
from stream_app.meters import Histogram, Meters


def nothing(*_: object, **__: object) -> None:
    """Measure nothing."""


def unmeter() -> None:
    """Take out what is done for ``/metrics`` alone; totals by outcome are in status.json, too."""
    intake.arrivals = lambda *_: []  # type: ignore[attr-defined]
    Histogram.observe = nothing  # type: ignore[method-assign]
    Meters.published = nothing  # type: ignore[method-assign]
    Meters.buried = nothing  # type: ignore[method-assign]
    Meters.encoder_answered = nothing  # type: ignore[method-assign]


if __name__ == "__main__":
    unmeter()
    main()
