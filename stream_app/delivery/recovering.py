"""How far the restoring of the windows is, as Faust counts it."""

from __future__ import annotations

import faust


def recovery_remaining(app: faust.App) -> dict[int, int]:
    """Return the changelog records still to be read per partition, of those that have any."""
    recovery = app.tables._recovery  # type: ignore[attr-defined]
    if recovery is None or recovery.completed.is_set():
        return {}
    remaining = recovery.active_remaining()
    return {tp.partition: left for tp, left in sorted(remaining.items()) if left > 0}
