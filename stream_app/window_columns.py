"""Windows as the flat arrays that go through the pipe.

Legend: B windows, L events of all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

import numpy as np

from encoders.interface import Int32, Int64, UInt8
from state.window import Window

SLICE_USERS = 256
"""Users gathered before the event loop may run something else: about 1 ms."""


async def columns_of(windows: Sequence[Window]) -> tuple[Int64, Int64, UInt8, Int32]:
    """Return offsets [B + 1], times [L], types [L] and dwell times [L] of the windows."""
    offsets = np.zeros(len(windows) + 1, np.int64)
    np.cumsum([len(window.types) for window in windows], out=offsets[1:])
    times_ms = np.empty(offsets[-1], np.int64)
    dwell_ms = np.full(offsets[-1], -1, np.int32)
    for start in range(0, len(windows), SLICE_USERS):
        if start:
            await asyncio.sleep(0)
        part = windows[start : start + SLICE_USERS]
        first, last = offsets[start], offsets[start + len(part)]
        times_ms[first:last] = np.fromiter(
            chain.from_iterable(window.times_ms for window in part), np.int64, last - first
        )
        for at, window in enumerate(part, start):
            if window.dwell_ms:
                dwell_ms[offsets[at] : offsets[at + 1]] = [
                    -1 if dwell is None else dwell for dwell in window.dwell_ms
                ]
    types = np.frombuffer(b"".join(window.types for window in windows), np.uint8)
    return offsets, times_ms, types, dwell_ms
