"""May this worker still write for its partitions? As long as its heartbeats are answered.

A worker that was frozen past its session timeout does not know that others took over. It must not
publish or store before a heartbeat has told it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stream_app.partition import Partition

_POLL_S = 0.05


class Lease:
    """Held while the last confirmed heartbeat is younger than the session timeout."""

    log = logging.getLogger("stream_app.lease")

    def __init__(self, renewed_at: Callable[[], float], session_timeout_s: float) -> None:
        self._renewed_at = renewed_at
        self._session_timeout_s = session_timeout_s
        self._said_lost = False

    def is_held(self) -> bool:
        """Tell whether Kafka cannot have given our partitions away yet."""
        return time.monotonic() - self._renewed_at() < self._session_timeout_s

    async def held(self, partition: Partition) -> None:
        """Return once the lease is held; wait for a heartbeat if it is not.

        Raises:
            PartitionRevoked: the answer was that the partition has gone.
        """
        while not self.is_held():
            self.tell()
            partition.must_be_ours()
            await asyncio.sleep(_POLL_S)
        self.tell()
        partition.must_be_ours()

    def tell(self) -> None:
        """Say once that the lease is lost, and once that it is held again."""
        held = self.is_held()
        if held and self._said_lost:
            self.log.info("heartbeats are confirmed again: writing goes on")
        elif not held and not self._said_lost and self._renewed_at() > 0:
            self.log.warning(
                "no heartbeat confirmed for %g s: nothing is written until one is",
                self._session_timeout_s,
            )
        else:
            return
        self._said_lost = not held
