"""Waiting for something to become true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


def eventually(condition: Callable[[], T], *, within_s: float, what: str | Callable[[], str]) -> T:
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
