"""What the worker holds in memory of one assigned partition."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from aiokafka.structs import ConsumerRecord

from state import codec
from state.table import PartitionTable
from state.window import Window
from stream_app.errors import InterestStreamError
from stream_app.stages import Arrival

log = logging.getLogger("stream_app.partition")


class PartitionRevoked(InterestStreamError):
    """The partition is no longer ours: whoever has it goes on from the last commit."""


class Forgotten(NamedTuple):
    """The state of a user of whom nothing is known any more: after a ``forget`` or expired."""

    applied_offset: int
    expired: bool = False


State = Window | Forgotten


class Taken(NamedTuple):
    """A RecordBatch in flight: folded, not yet acknowledged."""

    tick: int
    batch: Any
    """The Faust event; its ``ack()`` lets the offset be committed."""


class Partition:
    """Hot windows, the users that want storing or publishing, and the RecordBatches in flight.

    Time within a partition is counted in ticks: every RecordBatch folded is one. A vector round
    covers all that was touched up to some tick; a checkpoint waits for that.
    """

    def __init__(self, number: int, table: PartitionTable) -> None:
        self.number = number
        self.table = table
        self.hot: dict[bytes, Window | None] = {}
        """Windows in memory, ``None`` where the table is known to have none."""
        self.dirty: dict[bytes, State] = {}
        self.storing: dict[bytes, State] = {}
        """What was dirty when the checkpoint under way began."""
        self.touched: dict[bytes, State] = {}
        self.expiring: dict[bytes, Forgotten] = {}
        """Silent users whose updates are being deleted; their windows go next."""
        self.stream_ms = -1
        """Stream time: the newest event time folded here since the partition is ours."""
        self.stored_stream_ms = -1
        """The same as of the last checkpoint: the table has all windows of events up to there."""
        self.forgotten_texts: list[str] = []
        """Own texts of users who asked to be forgotten, to be dropped by the encoder."""
        self.arrivals: list[Arrival] = []
        """When the events came whose users no round has gathered yet."""
        self.taken: deque[Taken] = deque()
        self.deliveries: set[asyncio.Task[None]] = set()
        self._drops: set[asyncio.Task[None]] = set()
        """Of forgotten users' texts."""
        self._rounds = 0
        """Those under way with windows of ours."""
        self.checkpointing = asyncio.Lock()
        self.next_sequence = 0
        """Of the next RecordBatch that delivery hands over, if none got lost on the way."""
        self.last_offset = -1
        """Of the last source record folded."""
        self.warming_up = False
        """Whether events only fill windows yet: a replay that has not come to its beginning."""
        self._taken_up_to = -1
        self.tick = 0
        self.revoked = False
        self.failed_delivery: BaseException | None = None
        """A delivery that no retry mends: no checkpoint may pass it."""
        self._published_tick = 0
        self._redo_tick = 0
        self._moved = asyncio.Event()

    def load(self, keys: Iterable[bytes]) -> None:
        """Bring the windows of these users into memory."""
        hot = self.hot
        cold = list({key for key in keys if key not in hot})
        if cold:
            for key, stored in zip(cold, self.table.get_many(cold), strict=True):
                hot[key] = None if stored is None else codec.decode(stored)

    def peek(self, key: bytes) -> Window | None:
        """Return a user's window as it is now; one that is only on disk stays there alone.

        Raises:
            DatabaseDamaged: a file is not as it was written.
        """
        for states in (self.dirty, self.storing, self.expiring):
            state = states.get(key)
            if state is not None:
                return state if isinstance(state, Window) else None
        if key in self.hot:
            return self.hot[key]
        (stored,) = self.table.get_many([key])
        return None if stored is None else codec.decode(stored)

    def cool(self, most: int) -> None:
        """Let the longest-held windows go from memory where there are more than ``most``.

        An eighth of ``most`` goes beyond that, so that not every RecordBatch has to look for some.
        Windows that still want storing or publishing stay: the table has older ones.
        """
        excess = len(self.hot) - most
        if excess <= 0:
            return
        busy = self.dirty.keys() | self.storing.keys() | self.touched.keys()
        idle = (key for key in self.hot if key not in busy)
        for key in list(islice(idle, excess + most // 8)):
            del self.hot[key]

    def touch_again(self, states: dict[bytes, State]) -> None:
        """Publish these users once more, as they are now: their updates were not delivered."""
        self.tick += 1
        self._redo_tick = self.tick
        for key, state in states.items():
            self.touched.setdefault(key, self._current(key, state))

    def _current(self, key: bytes, state: State) -> State:
        """Return the user's state as it is now, where it once was ``state``."""
        for newer in (self.dirty, self.storing):
            if key in newer:
                return newer[key]
        if key in self.expiring:
            return self.expiring[key]
        self.load((key,))
        window = self.hot[key]
        if window is not None:
            return window
        return state if isinstance(state, Forgotten) else Forgotten(self.last_offset)

    def is_idle(self) -> bool:
        """Tell whether the partition is ours and nothing of it is on its way anywhere."""
        busy = self.revoked or self.dirty or self.taken or self.touched
        return not (busy or self.deliveries or self._drops or self.checkpointing.locked())

    def write_again(self, held: dict[bytes, int]) -> None:
        """Store and publish these users once more: in the log, something older comes last.

        ``held``: user id -> source offset of what we hold.
        """
        self.load(held)
        for key, offset in held.items():
            window = self.hot[key]
            state = Forgotten(offset) if window is None else window
            self.dirty[key] = self.touched[key] = state
        self.tick += bool(held)

    def warmed_up(self) -> None:
        """Forget who was touched in the warm-up: from here on it is published."""
        if self.warming_up:
            self.touched.clear()
            self.warming_up = False

    def uncovered(self) -> bool:
        """Tell whether a tick passed that no round covers yet."""
        return self.tick > self._published_tick

    def deliver(self, delivery: Coroutine[Any, Any, None]) -> None:
        """Run a delivery that the next checkpoint waits for."""
        self._keep(asyncio.create_task(delivery), self.deliveries)

    def drop_texts(self, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Drop a forgotten user's texts, once no round has an older window of theirs any more.

        Such a round would have the encoder embed them again, and keep them.
        """

        async def drop_once_covered(tick: int) -> None:
            while self._published_tick < tick and not self.revoked:
                await self._moved.wait()
            if not self.revoked:
                return await drop()
            while self._rounds:
                await self._moved.wait()
            with contextlib.suppress(InterestStreamError):  # its next owner forgets again
                await drop()

        self._keep(asyncio.create_task(drop_once_covered(self.tick)), self._drops)
        self._wake()

    async def texts_dropped(self) -> None:
        """Wait until the texts of everybody forgotten so far are dropped.

        Before the changelog is told: from then on nobody knows which texts they were.
        """
        while self.forgotten_texts and not self.revoked:  # a RecordBatch is being folded
            await self._moved.wait()
        if self._drops:
            await asyncio.wait(list(self._drops))
        if self.failed_delivery is not None:
            raise self.failed_delivery

    def _keep(self, task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._on_delivery_done)

    def _on_delivery_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            failure = task.exception()
            unexpected = None if isinstance(failure, InterestStreamError) else failure
            log.error(
                "partition %s: a delivery failed: %s", self.number, failure, exc_info=unexpected
            )
            self.failed_delivery = failure

    def round_begins(self) -> None:
        """A round has windows of ours."""
        self._rounds += 1

    def round_ended(self) -> None:
        """It asks for nothing of them any more."""
        self._rounds -= 1
        self._wake()

    def covered(self, tick: int) -> None:
        """All that was touched up to ``tick`` is handed to the producer."""
        self._published_tick = max(self._published_tick, tick)
        self._wake()

    def revoke(self) -> None:
        """Drop everything; whoever waits on this partition is told."""
        self.revoked = True
        self.hot.clear()
        self.dirty.clear()
        self.storing = {}  # not cleared: a checkpoint may be in the middle of it
        self.touched.clear()
        self.expiring.clear()
        self.arrivals.clear()
        self.taken.clear()
        self._wake()

    async def delivered(self, tick: int) -> None:
        """Wait until every update and dead letter up to ``tick`` is acknowledged by the broker.

        Raises:
            PartitionRevoked: it will not happen here any more.
        """
        while True:
            wanted = max(tick, self._redo_tick)
            while self._published_tick < wanted and not self.revoked:
                await self._moved.wait()
            if self.deliveries:
                await asyncio.wait(list(self.deliveries))
            self.must_be_ours()
            if self.failed_delivery is not None:
                raise self.failed_delivery
            if self._published_tick >= max(tick, self._redo_tick):
                return

    def goes_on(self, records: Sequence[ConsumerRecord]) -> bool:
        """Tell whether records begin behind those that came last, and take note of the last one."""
        before = self._taken_up_to
        if records:
            self._taken_up_to = records[-1].offset
        return not records or records[0].offset > before

    def must_be_ours(self) -> None:
        """Raise :class:`PartitionRevoked` once the partition has left us."""
        if self.revoked:
            raise PartitionRevoked(f"partition {self.number} has left this worker")

    def _wake(self) -> None:
        self._moved.set()
        self._moved.clear()
