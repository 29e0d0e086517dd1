"""One process of a replay: the worker on shadow settings, watched until the group is through."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_app import runner, topics
from stream_app.errors import RestartWorker, WaitForBroker
from stream_app.replaying.names import shadow_settings
from stream_app.replaying.plan import Plan
from stream_app.replaying.planning import model_check
from stream_app.settings import Settings
from stream_app.status import Counts
from stream_app.worker import Worker

log = logging.getLogger("stream_app.replaying")

_LOOK_EVERY_S = 0.5
"""As often as offsets are committed."""

Show = Callable[[int, int], None]
"""Called with how many offsets are done, and of how many."""


class Watch:
    """Looks at the group's commits until every partition has come to its end."""

    def __init__(self, settings: Settings, plan: Plan, show: Show) -> None:
        """``settings``: the replay's own."""
        self._settings = settings
        self._plan = plan
        self._show = show
        self._users: dict[int, int] = {}
        """Partition that this process has finished -> users who have a window in it."""
        self._began_at = 0.0
        self.complete = False
        self._seconds = 0.0
        self._counts = Counts()

    async def until_complete(self, worker: Worker) -> None:
        """Return when the group is through and the worker may stop."""
        plan, total = self._plan, self._plan.total
        self._counts = worker.counts
        while True:
            try:
                committed = await topics.committed(self._settings)
            except WaitForBroker as error:  # the worker waits for it, too
                log.warning("How far the replay is cannot be told: %s", error)
            else:
                done = plan.done(committed)
                self._show(done, total)
                running = worker.state == "running"
                if running and not self._began_at:
                    self._began_at = time.perf_counter()
                self._count_users(worker, committed)
                # While it restores windows it is not to be stopped: let it come to rest.
                if done == total and running and worker.items_settled():
                    self.complete = True
                    self._seconds = time.perf_counter() - self._began_at
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _count_users(self, worker: Worker, committed: dict[int, int]) -> None:
        """Count the users of partitions that have just come to their end, in our hands.

        Later they may move to whoever is still there, and would be counted twice.
        """
        for number, partition in worker.held().items():
            at_end = committed.get(number, 0) >= self._plan.partitions[number].end
            if at_end and partition.next_sequence and number not in self._users:
                self._users[number] = partition.table.count()

    def summary(self) -> dict[str, Any]:
        """Return what this process did."""
        counts, seconds = self._counts, self._seconds
        return {
            "name": self._plan.name,
            "complete": self.complete,
            "offsets": self._plan.total,
            "events": counts.records,
            "skipped": counts.skipped,
            "dead_letters": counts.dead_letters,
            "users": sum(self._users.values()),
            "updates": counts.updates_published,
            "tombstones": counts.tombstones,
            "seconds": round(seconds, 2),
            "events_per_s": round((counts.records + counts.skipped) / seconds) if seconds else 0,
            "updates_topic": self._settings.updates_topic,
            "notes": list(self._plan.notes),
        }


def run(
    settings: Settings, plan: Plan, *, model: str | None, datadir: Path | None, show: Show
) -> dict[str, Any]:
    """Run one process of a replay until the group is through; return its summary.

    ``settings``: of the live worker. ``model``: a bundle, instead of the plan's.

    Raises:
        RestartWorker: stopped before; the same command goes on where it stopped.
        InterestStreamError: as a worker.
    """
    shadow = shadow_settings(
        settings, plan.name, model=model or plan.request.model, datadir=datadir
    )
    if shadow.log_level == "info":  # the progress says it
        shadow = shadow.model_copy(update={"log_level": "warning"})
    watch = Watch(shadow, plan, show)
    runner.run(
        shadow,
        bounds=plan.bounds(),
        on_model=model_check(settings, plan),
        until=watch.until_complete,
    )
    if not watch.complete:
        raise RestartWorker(
            f"replay {plan.name} was stopped before its end; the same command goes on with it"
        )
    return watch.summary()
