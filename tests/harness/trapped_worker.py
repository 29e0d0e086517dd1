"""A worker that kills or freezes itself at a chosen point of an event's way.

``python -m tests.harness.trapped_worker worker`` is ``python -m stream_app worker`` with a few of
its methods wrapped; production code knows nothing of it. The file named by ``TRAP_ARM_FILE`` says
which trap springs (``<signal> <stage> <passings>``, as in ``KILL changelog 3``). It may come at any
time, and it is deleted right before the signal, so that the next start is an ordinary one.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.events import Event

from state.table import PartitionTable
from stream_app.changelog import Changelog
from stream_app.checkpoint import Checkpoints
from stream_app.delivery.window_table import WindowStore
from stream_app.holding import Holding
from stream_app.intake import Intake
from stream_app.partition import Partition
from stream_app.producer import BatchProducer
from stream_app.worker import Worker
from tests.harness.worker import ARM_VARIABLE, TELL_TASKS

STAGES = {
    "fold": "a RecordBatch is folded",
    "changelog-sent": "the changelog's records are on their way, not acknowledged",
    "changelog": "the changelog has acknowledged",
    "publish": "updates and dead letters are acknowledged",
    "store": "RocksDB has the windows, nothing is acknowledged to Faust",
    "ack": "between two acknowledgements to Faust",
    "commit": "the commit is on its way",
    "committed": "the commit is confirmed",
    "recovery": "part of the changelog is restored",
    "revoked": "partitions are being given up",
    "assigned": "windows are restored, the first event has not come",
}
FREEZES = {
    "before-changelog": "the lease was looked at, changelog records are about to be sent",
    "before-update": "the lease was looked at, updates are about to be sent",
}


class Trap:
    """Counts passings of the armed stage, and springs at the last one."""

    def __init__(self, arm_file: Path) -> None:
        self._file = arm_file
        self._passed = 0

    def armed(self, stage: str) -> bool:
        """Count a passing; tell whether it is the one."""
        try:
            _, wanted, passings = self._file.read_text().split()
        except (FileNotFoundError, ValueError):  # not armed, or half written
            return False
        self._passed += wanted == stage
        return wanted == stage and self._passed >= int(passings)

    def spring(self) -> None:
        """Send the signal to ourselves, once."""
        number = signal.Signals[f"SIG{self._file.read_text().split()[0]}"]
        self._file.unlink()
        self._passed = 0
        sys.stderr.write(f"trap: {number.name}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), number)

    def at(self, stage: str) -> None:
        """Pass the stage."""
        if self.armed(stage):
            self.spring()


def lay(trap: Trap) -> None:
    """Wrap every method that a stage is named after.

    Raises:
        AttributeError: one of them has gone; the stage has to be looked for anew.
    """
    _after(Intake, "take", lambda _: trap.at("fold"))
    _after(Changelog, "append", lambda last: None if last is None else trap.at("changelog"))
    _after(Partition, "delivered", lambda _: trap.at("publish"))
    _after(WindowStore, "apply_changelog_batch", lambda _: trap.at("recovery"))
    _before(Event, "ack", lambda *_: trap.at("ack"))
    _before(Worker, "_on_revoked", lambda *_: trap.at("revoked"))
    _after(Holding, "_own_updates", lambda _: trap.at("assigned"))
    _lay_at_store(trap)
    _lay_at_send(trap)
    _lay_at_commit(trap)


def _lay_at_store(trap: Trap) -> None:
    """Of the table's writes those of a checkpoint, not those of a restore."""
    write = PartitionTable.write
    checkpoint = Checkpoints.checkpoint.__code__

    def stored(self: PartitionTable, *arguments: Any) -> None:
        write(self, *arguments)
        if sys._getframe(1).f_code is checkpoint:
            trap.at("store")

    PartitionTable.write = stored  # type: ignore[method-assign]


def _lay_at_send(trap: Trap) -> None:
    send = BatchProducer._send

    async def sent(self: BatchProducer, topic: str, partition: int, records: Any) -> int:
        is_changelog = topic.endswith("-changelog")
        trap.at("before-changelog" if is_changelog else "before-update")
        if is_changelog and trap.armed("changelog-sent"):
            return await _halfway(send(self, topic, partition, records), trap)
        return await send(self, topic, partition, records)

    BatchProducer._send = sent  # type: ignore[method-assign]


def _lay_at_commit(trap: Trap) -> None:
    commit = AIOKafkaConsumer.commit

    async def committed(self: Any, *arguments: Any) -> None:
        if trap.armed("commit"):
            await _halfway(commit(self, *arguments), trap)
        else:
            await commit(self, *arguments)
        trap.at("committed")

    AIOKafkaConsumer.commit = committed


async def _halfway(request: Any, trap: Trap) -> Any:
    """Let a request go out, and spring before its answer is looked at."""
    task = asyncio.ensure_future(request)
    for _ in range(8):  # turns of the loop: create, route to the node, write to the socket
        await asyncio.sleep(0)
    trap.spring()
    return await task


def _after(owner: type, name: str, then: Callable[[Any], None]) -> None:
    original = getattr(owner, name)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        result = await original(*arguments, **named)
        then(result)
        return result

    def called(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        then(result)
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else called)


def _before(owner: type, name: str, first: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        first(*arguments)
        return original(*arguments, **named)

    setattr(owner, name, called)


def tell_tasks(*_: Any) -> None:
    """Write where every task waits: for a worker that does not come to an end."""
    for task in asyncio.all_tasks(asyncio.get_running_loop()):
        waiting: Any = task.get_coro()
        places = []
        while waiting is not None:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
            if frame is not None:
                places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
        sys.stderr.write(f"task {task.get_name()} waits: {' > '.join(places)}\n")
    sys.stderr.flush()


def main() -> None:
    """Lay the traps, then be a worker."""
    from stream_app.cli import main as run

    signal.signal(TELL_TASKS, tell_tasks)
    lay(Trap(Path(os.environ[ARM_VARIABLE])))
    run()


if __name__ == "__main__":  # the encoder process imports this module again
    main()
