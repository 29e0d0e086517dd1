"""The reader for programs without asyncio: a thread that keeps up with the updates topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from stream_app.latest_updates import Staleness
from stream_app.reader import Change, UpdatesReader
from stream_app.updates import Update


class BlockingReader:
    """Keeps the latest update of every user at hand, from any thread.

    >>> with BlockingReader(UpdatesReader("127.0.0.1:9092")) as vectors:     # doctest: +SKIP
    ...     update = vectors.get("alice")

    It has caught up when the block begins. ``on_changes`` is called in the reader's thread with
    what is news after that. What ends the thread is raised by every method from then on, and by
    the end of the block.
    """

    def __init__(
        self, reader: UpdatesReader, on_changes: Callable[[list[Change]], None] | None = None
    ) -> None:
        self._reader = reader
        self._on_changes = on_changes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="updates-reader")
        self._began: Future[asyncio.Task[None]] = Future()
        self._caught_up: Future[None] = Future()

    def get(self, user_id: str) -> Update | None:
        """Return the user's latest update; ``None`` where there is none."""
        self._insist_on_the_thread()
        return self._reader.updates.get(user_id)

    def snapshot(self) -> Mapping[str, Update]:
        """Return user id -> latest update as it is now; of one moment, and of one model if the
        reader insists on one or switches."""
        self._insist_on_the_thread()
        return self._reader.updates.snapshot()

    def staleness(self, user_id: str, now_ms: int) -> Staleness | None:
        """Return how old a user's vector is at ``now_ms``; ``None`` where there is none."""
        self._insist_on_the_thread()
        return self._reader.staleness(user_id, now_ms)

    def __enter__(self) -> Self:
        """Start, and wait until all is read that the topic holds.

        Raises:
            WaitForBroker: no broker answers.
            FixSettings: there is no such topic.
        """
        self._thread = self._pool.submit(asyncio.run, self._follow())
        try:
            _first_of(self._caught_up, self._thread)
            self._insist_on_the_thread()
        except BaseException:  # a Ctrl-C while waiting, too: the thread would outlive it
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the thread; raise what ended it before."""
        self._end()
        failure = self._thread.exception()
        if error is None and not isinstance(failure, asyncio.CancelledError):
            self._thread.result()

    def _end(self) -> None:
        _first_of(self._began, self._thread)
        if self._began.done() and not self._thread.done():
            task = self._began.result()
            task.get_loop().call_soon_threadsafe(task.cancel)
        self._pool.shutdown()

    def _insist_on_the_thread(self) -> None:
        if self._thread.done():
            self._thread.result()

    async def _follow(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._began.set_result(task)
        async with self._reader as reader:
            await reader.catch_up()
            self._caught_up.set_result(None)
            while True:
                changes = await reader.fetch()
                if changes and self._on_changes is not None:
                    self._on_changes(changes)


def _first_of(*futures: Future[Any]) -> None:
    wait(futures, return_when=FIRST_COMPLETED)
