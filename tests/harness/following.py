"""A reader that follows the updates topic all the while, as a service downstream does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from stream_app.errors import InterestStreamError
from stream_app.reader import UpdatesReader

_RETRY_S = 0.5
_FETCH_S = 0.5


@dataclass
class Followed:
    """What the reader saw."""

    offsets: list[dict[str, list[int]]] = field(default_factory=list)
    """By connection: user -> applied offsets of the changes it took for news, in order. Each
    connection begins at the beginning of the topic, so it goes back from the one before."""
    held: dict[str, int] = field(default_factory=dict)
    """User -> applied offset of the update held at the end."""
    dropped: int = 0
    """Stale records that came by in the last connection, dropped by the reader's rule."""

    def assert_never_back(self) -> None:
        """Per user, what was news never had a lower applied offset than what was news before."""
        for number, offsets in enumerate(self.offsets):
            back = {user: seen for user, seen in offsets.items() if seen != sorted(seen)}
            assert not back, (
                f"in connection {number} of {len(self.offsets)} the reader went back in time for "
                f"{len(back)} users: {back}"
            )


class Follower:
    """Runs an :class:`UpdatesReader` in a thread until it is told to stop."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._followed = Followed()
        self._loop = asyncio.new_event_loop()
        self._enough: asyncio.Event = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> Followed:
        """Read to the present end of the topic, and return what was seen."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join()
        if self._error is not None:
            raise AssertionError("following the updates failed") from self._error
        return self._followed

    def give_up(self) -> None:
        """Stop reading; for the end of a failed test."""
        with contextlib.suppress(RuntimeError, AssertionError):
            self.stop()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._follow())
        except Exception as error:  # noqa: BLE001 - told to the test's own thread by stop
            self._error = error
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        """Connect anew, from the beginning, where the broker was too long away."""
        while not self._enough.is_set():
            try:
                async with UpdatesReader(self._bootstrap, self._topic) as reader:
                    await self._read(reader)
            except (KafkaError, InterestStreamError):
                if self._enough.is_set():
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _read(self, reader: UpdatesReader) -> None:
        offsets: dict[str, list[int]] = {}
        self._followed.offsets.append(offsets)
        while not self._enough.is_set():
            for change in await reader.fetch(within_s=_FETCH_S):
                offsets.setdefault(change.user_id, []).append(change.applied_offset)
        await reader.catch_up()
        self._followed.dropped = reader.dropped
        self._followed.held = {
            user: update.applied_offset for user, update in reader.updates.items()
        }
