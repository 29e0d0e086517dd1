"""The independent reader of the demo: a plain consumer that knows the stream by its topics only."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from aiokafka.structs import ConsumerRecord

_RECENT = 2_000
"""Latencies that the live view's percentiles are taken from: the last second or two."""


@dataclass
class _User:
    """What was sent for a user, and what of it has come back."""

    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    """Offset and hand-over time of events whose update has not been seen."""
    last_sent: int = -1
    applied: list[int] = field(default_factory=list)
    """Applied offsets of the updates seen, rising."""
    seen_at: list[float] = field(default_factory=list)
    value: bytes | None = None
    """The last update, as it came."""


class Observer:
    """Pairs each event with the first update that contains it.

    An event at offset ``o`` is reached by the first update of its user whose ``applied_offset``
    is ``o`` or more. Acknowledgements and updates may come in either order, so both sides keep
    what the other has not seen yet. Times are ``time.perf_counter()`` of this process, from the
    hand-over to the producer to the arrival here: produce, worker, produce and fetch are in it.
    """

    def __init__(self) -> None:
        self._users: defaultdict[bytes, _User] = defaultdict(_User)
        self.updates_read = 0
        self.latencies_ms: list[float] = []

    def sent(self, key: bytes, _partition: int, offset: int, sent_at: float) -> None:
        """Take note of an acknowledged event."""
        user = self._users[key]
        user.last_sent = max(user.last_sent, offset)
        at = bisect_right(user.applied, offset - 1)
        if at < len(user.applied):
            self._reached(sent_at, user.seen_at[at])
        else:
            user.waiting.append((offset, sent_at))

    def read(self, record: ConsumerRecord) -> None:
        """Take note of an update, by its header alone: the vector is decoded at the end."""
        now = time.perf_counter()
        self.updates_read += 1
        user = self._users[bytes(record.key)]
        applied = int(dict(record.headers)["applied_offset"])
        if user.applied and applied < user.applied[-1]:
            return  # the reader's rule: older than what is held
        if not user.applied or applied > user.applied[-1]:
            user.applied.append(applied)
            user.seen_at.append(now)
        user.value = record.value
        while user.waiting and user.waiting[0][0] <= applied:
            self._reached(user.waiting.popleft()[1], now)

    def _reached(self, sent_at: float, seen_at: float) -> None:
        self.latencies_ms.append((seen_at - sent_at) * 1000)

    def users_behind(self) -> list[str]:
        """Return the users whose last update is not of their last event."""
        return sorted(
            key.decode()
            for key, user in self._users.items()
            if not user.applied or user.applied[-1] != user.last_sent
        )

    def users_seen(self) -> int:
        """Return how many users have an update."""
        return sum(1 for user in self._users.values() if user.applied)

    def latency_ms(self, share: float, *, recent: bool = False) -> float | None:
        """Return the latency that ``share`` of the events stayed under, None without any."""
        taken = self.latencies_ms[-_RECENT:] if recent else self.latencies_ms
        if not taken:
            return None
        ordered = sorted(taken)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def update(self, user_id: str) -> dict[str, Any]:
        """Return a user's last update. Plain JSON, as any reader would decode it."""
        value = self._users[user_id.encode()].value
        found: dict[str, Any] = json.loads(value or b"{}")
        return found
