"""The Faust app: its owner starts before it and ends after it."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

import faust
from faust.app.base import BootStrategy


class AppOwner(Protocol):
    """What surrounds the Faust app: started before it, stopped around it."""

    async def before_start(self) -> None:
        """Get ready; an exception stops the start."""

    async def before_stop(self) -> None:
        """Finish what is in flight while consumer, producer and tables still work."""

    async def after_stop(self) -> None:
        """Release the rest."""

    def on_refused(self, error: Exception) -> None:
        """End: Kafka does not let us read, or be in the group."""


class ClosedBootStrategy(BootStrategy):
    """Starts no web server: Faust's shows all state to anybody, and `faust worker` wants it on."""

    enable_web = False


class BatchApp(faust.App):
    """A Faust app that lets its owner begin before it and end after it."""

    BootStrategy = ClosedBootStrategy
    owner: AppOwner

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rebalance_lock = threading.Lock()
        self._recovering = 0
        self.recovering = False
        """Whether windows are being restored, from an assignment on."""
        self.recovery_started_s = 0.0
        """When the present or last recovery began, in seconds since the epoch.

        One that the next rebalance cuts short goes on: who looks for restores that do not end would
        never see one that is begun anew every few minutes.
        """

    def on_rebalance_start(self) -> None:
        """Begin a rebalance, perhaps while another one ends. Called in the consumer's thread."""
        with self._rebalance_lock:
            super().on_rebalance_start()

    def on_assigned(self) -> None:
        """Remember which rebalance it is whose windows are to be restored now."""
        self._recovering = self.rebalancing_count
        if not self.recovering:
            self.recovery_started_s = time.time()
        self.recovering = True

    def on_rebalance_end(self) -> None:
        """End the rebalance, unless the next one has begun meanwhile, which stock Faust ends."""
        with self._rebalance_lock:
            if self._recovering == self.rebalancing_count:
                super().on_rebalance_end()
                self.recovering = False

    def FlowControlQueue(  # noqa: N802  # Faust's name
        self, maxsize: int | None = None, *, clear_on_resume: bool = False
    ) -> Any:
        """Return a queue that is never emptied behind our back.

        Faust empties its queues whenever flow resumes, twice in one rebalance, and what was
        fetched in between is gone though the consumer has moved on: events for the agent, and
        changelog records for a standby, whose windows then lack them for ever. The agent tells
        what is left from before a rebalance by its generation; a table takes records twice.
        """
        return super().FlowControlQueue(maxsize, clear_on_resume=False)

    def _on_rebalance_when_stopped(self) -> None:
        """Do nothing: the consumer is stopped in its turn.

        Stock Faust closes its connections right here, from within aiokafka's rejoining, which then
        waits for ever on one of them; and the stop waits for that.
        """

    async def on_first_start(self) -> None:
        """Let the owner get ready, then start as Faust does."""
        await self.owner.before_start()
        await super().on_first_start()

    async def on_stop(self) -> None:
        """Finish what is in flight, then stop as Faust does."""
        await self.owner.before_stop()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Release what the owner holds, after Faust's own services have stopped."""
        await super().on_shutdown()
        await self.owner.after_stop()


def recovery_remaining(app: faust.App) -> dict[int, int]:
    """Return how many changelog records each of our partitions has still to read.

    Empty before a recovery knows where the changelog ends.
    """
    recovery = app.tables._recovery  # type: ignore[attr-defined]
    if recovery is None:
        return {}
    read: dict[Any, int | None] = recovery.active_offsets
    return {
        tp.partition: max(0, last - (-1 if (at := read.get(tp)) is None else at))
        for tp, last in recovery.active_highwaters.items()
    }


def recovery_complete(app: faust.App) -> bool:
    """Tell whether the windows of all assigned partitions are restored and events flow."""
    recovery = app.tables._recovery  # type: ignore[attr-defined]
    return bool(recovery and recovery.completed.is_set() and not app.rebalancing)
