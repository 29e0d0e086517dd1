"""Silent users leave: their updates are deleted, then their windows.

A window whose newest event lies further than ``WindowPolicy.sweep_ms`` behind stream time has
expired. Stream time is the newest event time folded in the partition, so no clock decides, and a
partition without events keeps what it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from state import codec
from stream_app.checkpoint import Checkpoints
from stream_app.errors import WaitForBroker
from stream_app.partition import Forgotten, Partition, PartitionRevoked
from stream_app.status import Counts

log = logging.getLogger("stream_app.sweep")

_SLICE_USERS = 256
"""Windows looked at before the event loop may run something else: under a millisecond."""
_LOOP_SHARE = 0.02
"""Of the event loop's time that looking may take. A million windows take twenty minutes."""
_REST_MAX_S = 5.0
"""After a slice that took long because the process was stalled or its disk was slow."""
_PASSES_PER_SPAN = 50
"""A partition is looked through again when stream time has moved on by this part of the span: a
silent user stays at most a fiftieth longer than the settings say, and the time of one pass."""
_EXPIRING_USERS_MAX = 8192
"""Users whose deletions are waited for at once: a round takes as long for one as for many, seconds
where the worker cannot keep up."""
_PAUSE_S = 0.5
_RETRY_S = 2.0


class Silent(NamedTuple):
    """Users whose newest event lies far enough behind."""

    committed: list[bytes]
    """They can go."""
    uncommitted: list[bytes]
    """They cannot yet: a crash now would have Kafka deliver events again, which must find the
    window as it is."""


def silent(rows: Sequence[tuple[bytes, bytes]], older_than_ms: int, committed: int) -> Silent:
    """Return the users of stored windows whose newest event lies before ``older_than_ms``. Pure."""
    found = Silent([], [])
    for key, stored in rows:
        seen = codec.last_seen(stored)
        if seen.newest_ms < older_than_ms:
            (found.committed if seen.applied_offset < committed else found.uncommitted).append(key)
    return found


class Sweep:
    """Looks through every partition's table, slice by slice, and lets expired windows go."""

    def __init__(
        self,
        partitions: Callable[[], Iterable[Partition]],
        want_round: Callable[[], None],
        checkpoints: Checkpoints,
        committed: Callable[[], Awaitable[dict[int, int]]],
        counts: Counts,
        *,
        sweep_ms: int,
        dirty_users_max: int,
    ) -> None:
        """At a partition's share of ``dirty_users_max`` the sweep waits for a checkpoint."""
        self._partitions = partitions
        self._want_round = want_round
        self._checkpoints = checkpoints
        self._committed = committed
        self._counts = counts
        self._sweep_ms = sweep_ms
        self._dirty_users_max = dirty_users_max
        self._swept_to_ms: dict[Partition, int] = {}

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            due = [partition for partition in self._partitions() if self._is_due(partition)]
            if not due:
                continue
            try:
                committed = await self._committed()
            except WaitForBroker as error:
                log.warning("Expired windows stay for now: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            for partition in due:
                try:
                    await self.sweep(partition, committed.get(partition.number, 0))
                except PartitionRevoked as error:
                    log.info("%s", error)

    def _is_due(self, partition: Partition) -> bool:
        self._swept_to_ms = {each: self._swept_to_ms.get(each, -1) for each in self._partitions()}
        moved_ms = partition.stored_stream_ms - self._swept_to_ms[partition]
        return moved_ms > self._sweep_ms // _PASSES_PER_SPAN

    async def sweep(self, partition: Partition, committed: int) -> None:
        """Look through a partition once.

        Silent users who cannot go yet are looked for again soon, for stream time may stand still.

        Raises:
            PartitionRevoked: it has left us.
        """
        stream_ms = partition.stored_stream_ms  # what is not in the table yet is not looked at
        older_than_ms = stream_ms - self._sweep_ms
        passed_over = False
        cursor: bytes | None = b""
        try:
            while cursor is not None:
                partition.must_be_ours()
                began_s = time.perf_counter()
                rows = partition.table.after(cursor, _SLICE_USERS)
                found = silent(rows, older_than_ms, committed)
                all_marked = _mark(partition, found.committed)
                passed_over |= not all_marked or bool(found.uncommitted)
                took_s = time.perf_counter() - began_s
                cursor = rows[-1][0] if len(rows) == _SLICE_USERS else None
                if len(partition.expiring) >= _EXPIRING_USERS_MAX or cursor is None:
                    await self._let_go(partition)
                await asyncio.sleep(min(took_s / _LOOP_SHARE, _REST_MAX_S))
            if not passed_over:
                self._swept_to_ms[partition] = stream_ms
        finally:
            partition.expiring.clear()

    async def _let_go(self, partition: Partition) -> None:
        """Wait until the marked users' updates are deleted, then delete their windows.

        In this order, for nothing is delivered again after a crash that would repeat the first:
        killed in between, the worker finds the windows again and expires them once more.
        """
        if not partition.expiring:
            return
        partition.tick += 1
        self._want_round()
        await partition.delivered(partition.tick)
        for key, state in partition.expiring.items():
            if not _is_busy(partition, key):
                partition.hot[key] = None
                partition.dirty[key] = state
                self._counts.expired += 1
        partition.expiring.clear()
        share = self._dirty_users_max // max(1, len(list(self._partitions())))
        while len(partition.dirty) > share:  # deletions stay bounded, too
            if await self._checkpoints.attempt(partition):
                break  # what has been folded since is not ours to wait for
            partition.must_be_ours()
            await asyncio.sleep(_RETRY_S)


def _mark(partition: Partition, keys: Sequence[bytes]) -> bool:
    """Have the users' updates deleted, unless something of them is on its way; tell if of all.

    The tombstones name the last source offset folded. Up to there it is true that nothing of the
    user counts, and whatever a frozen worker writes of them afterwards is older.
    """
    state = Forgotten(partition.last_offset, expired=True)
    idle = [key for key in keys if not _is_busy(partition, key)]
    for key in idle:
        partition.expiring[key] = partition.touched[key] = state
    return len(idle) == len(keys)


def _is_busy(partition: Partition, key: bytes) -> bool:
    """Tell whether the user's window is on its way anywhere: then it is not the stored one."""
    return key in partition.dirty or key in partition.storing or key in partition.touched
