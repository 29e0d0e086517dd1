"""Waiting for something to become true, with a deadline, instead of sleeping and hoping.

A wait ends as soon as what it waits for is there, so its deadline is no check of speed: it tells a
hang from a machine on which three test processes share two slow cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05
PATIENCE_S = 80.0
"""For what running processes do: less than the 90 s after which a lost request is given up, so a
worker that hangs on one fails its test."""
LONG_PATIENCE_S = 180.0
"""Where processes start and load their libraries, or a connection has died without a word."""


def eventually(
    condition: Callable[[], T], *, what: str | Callable[[], str], within_s: float = PATIENCE_S
) -> T:
    """Return the first truthy value of ``condition``.

    Raises:
        AssertionError: nothing truthy came within ``within_s`` seconds; the message is ``what``,
            asked for at the end so that it can tell how far things had come.
    """
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {within_s} s: {said}")
        time.sleep(POLL_S)
