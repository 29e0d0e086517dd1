"""Points of the log as people name them: the beginning, the end, a time, offsets. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from stream_app.errors import FixSettings

EARLIEST: Literal["earliest"] = "earliest"
LATEST: Literal["latest"] = "latest"
WINDOW = "window"
"""As warm-up: what a window reaches back."""

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class AtTime(NamedTuple):
    """In each partition the first record of this time or later."""

    time_ms: int


class AtOffsets(NamedTuple):
    """An offset for each partition named; the others are not meant."""

    offsets: dict[int, int]


Position = Literal["earliest", "latest"] | AtTime | AtOffsets


def position(said: str) -> Position:
    """Return the point of the log that is called ``said``.

    >>> position("2026-11-01T00:00:00Z")
    AtTime(time_ms=1793491200000)
    >>> position("0:123,1:456")
    AtOffsets(offsets={0: 123, 1: 456})

    Raises:
        FixSettings: it is none of what such a point may be.
    """
    if said == EARLIEST:
        return EARLIEST
    if said == LATEST:
        return LATEST
    if _OFFSETS.fullmatch(said):
        pairs = [pair.split(":") for pair in said.split(",")]
        offsets = {int(partition): int(offset) for partition, offset in pairs}
        if len(offsets) < len(pairs):
            raise FixSettings(f"{said} names a partition twice")
        return AtOffsets(offsets)
    if said.isdecimal():
        return AtTime(int(said))
    try:
        time = datetime.fromisoformat(said)
    except ValueError:
        raise FixSettings(
            "a point of the log is earliest, latest, a time (2026-11-01, 2026-11-01T12:00:00Z, or "
            f"milliseconds since 1970) or offsets (0:123,1:456); found {said!r}"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return AtTime(int(time.timestamp() * 1000))


def duration_ms(said: str, window_ms: int) -> int:
    """Return how long a warm-up is: ``12h``, ``30d``, or ``window`` for ``window_ms``.

    >>> duration_ms("12h", 0)
    43200000

    Raises:
        FixSettings: it is no duration.
    """
    if said == WINDOW:
        return window_ms
    found = _DURATION.fullmatch(said)
    if found is None:
        raise FixSettings(
            f"a warm-up is a number and one of ms, s, m, h, d (30d), or {WINDOW!r}; found {said!r}"
        )
    return int(found[1]) * _UNIT_MS[found[2]]
