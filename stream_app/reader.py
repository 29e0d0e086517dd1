"""For services downstream: the latest interest vector of every user, from the updates topic."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Self

from aiokafka.structs import ConsumerRecord

from stream_app.change import NOT_SAID, Change, read
from stream_app.errors import FixData, FixSettings
from stream_app.followed_topic import Ends, FollowedTopic, Start, patiently
from stream_app.kafka_access import Brokers
from stream_app.latest_updates import LatestUpdates, Staleness, UpdatesView
from stream_app.model_switch import ModelSwitch, SwitchingUpdates

__all__ = [
    "Change",
    "LatestUpdates",
    "ModelSwitch",
    "Staleness",
    "Start",
    "SwitchingUpdates",
    "UpdatesReader",
    "read",
]

log = logging.getLogger(__name__)

_POLL_S = 0.5
_POISON_LINES = 20
"""Logged in full; a topic full of something else must not fill a disk with log lines."""


class UpdatesReader:
    """Follows the updates topic and keeps the latest update per user, of all models or of one.

    >>> async with UpdatesReader("127.0.0.1:9092") as reader:     # doctest: +SKIP
    ...     await reader.catch_up()
    ...     print(reader.updates["u1"].vector)
    ...     async for change in reader:
    ...         print(change.user_id, change.applied_offset)

    ``start`` says where to begin. ``model_id`` insists on one model. With ``on_switch`` it is the
    first one: another takes over for all users at once when a ``switch_share`` of them have a
    vector of it (see ``SwitchingUpdates``); then ``on_switch`` is called, and every change handed
    out afterwards is of the new model.

    It belongs to no group and commits nothing. A broker that is away is waited for; a record that
    is no update is counted in ``poison``, logged and passed over. Not for several tasks at once.
    """

    def __init__(
        self,
        bootstrap_servers: Brokers,
        topic: str = "interest.updates",
        *,
        start: Start = "earliest",
        model_id: str | None = None,
        on_switch: Callable[[ModelSwitch], None] | None = None,
        switch_share: float = 1.0,
    ) -> None:
        if on_switch is not None and start != "earliest":
            raise FixSettings(f"on_switch needs all users: start must be 'earliest', not {start!r}")
        self.poison = 0
        """Records seen that are no updates."""
        self._topic = FollowedTopic(bootstrap_servers, topic, start)
        self._latest = (
            LatestUpdates(model_id)
            if on_switch is None
            else SwitchingUpdates(on_switch, model_id=model_id, share=switch_share)
        )
        self._undelivered: deque[Change] = deque()
        self._switches = 0
        self._first_ends: Ends = {}
        self._frontier: dict[int, int] = {}
        self._source_topic = ""

    @property
    def updates(self) -> UpdatesView:
        """User id -> latest update, as a live read-only view (until a model switch)."""
        return self._latest.updates

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users whose latest update is of it; one alone where one is insisted on."""
        return self._latest.models

    @property
    def model_id(self) -> str | None:
        """The model insisted on, or with ``on_switch`` the one handed out now."""
        return self._latest.model_id

    @property
    def dropped_of_other_models(self) -> int:
        """Updates seen so far of models other than the one insisted on."""
        return self._latest.dropped_of_other_models

    @property
    def dropped(self) -> int:
        """Stale records seen so far."""
        return self._latest.dropped

    def staleness(self, user_id: str, now_ms: int) -> Staleness | None:
        """Return how old a user's vector is at ``now_ms``; ``None`` where there is none."""
        return self._latest.staleness(user_id, now_ms)

    async def __aenter__(self) -> Self:
        """Connect, and go to the start.

        Raises:
            WaitForBroker: no broker answers.
            FixSettings: there is no such topic.
        """
        await self._topic.__aenter__()
        self._first_ends = await patiently(self._topic.ends)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._topic.__aexit__(kind, error, traceback)

    async def catch_up(self) -> None:
        """Read until the present end of the topic: ``updates`` is whole then.

        What it reads is in ``updates`` and is not handed out as changes any more, but for those
        that follow a model switch: ``on_switch`` has not seen them.
        """
        switches = self._switches
        ends = await patiently(self._topic.ends)
        while await self._topic.behind(ends):
            await self._advance(_POLL_S)
            if self._switches == switches:
                self._undelivered.clear()

    async def lag(self) -> int:
        """Return the records between what was read and the end of the topic as it is now.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        return await self._topic.lag()

    async def source_lag(self) -> dict[int, int]:
        """Return, per source partition, the events behind the newest applied offset read of it.

        So many events, at most, may be missing in a vector of that partition, whose number is
        ``update.partition``. Events that change no window (duplicates, late ones, dead letters)
        bring no update: a few at the end may stay. Asks the broker once; empty before the first
        update.

        Raises:
            WaitForBroker: the broker does not answer.
        """
        if not self._source_topic:
            return {}
        ends = await self._topic.ends_of(self._source_topic, self._frontier)
        return {number: max(0, end - 1 - self._frontier[number]) for number, end in ends.items()}

    async def fetch(self, within_s: float = 1.0) -> list[Change]:
        """Return what is news, as soon as there is some; nothing after ``within_s``.

        Raises:
            FixData: the topic no longer holds what comes next: it was made anew.
        """
        if not self._undelivered:
            await self._advance(within_s)
        changes = list(self._undelivered)
        self._undelivered.clear()
        return changes

    async def __aiter__(self) -> AsyncIterator[Change]:
        """Yield every change that is news, for ever."""
        while True:
            while self._undelivered:
                yield self._undelivered.popleft()
            await self._advance(_POLL_S)

    async def _advance(self, within_s: float) -> None:
        """Take up what the next fetch brings."""
        for record in await self._topic.records(within_s):
            self._take(record)
        await self._settle()

    def _take(self, record: ConsumerRecord) -> None:
        try:
            change = read(record)
        except FixData as error:
            self.poison += 1
            if self.poison <= _POISON_LINES:
                more = " (more will only be counted)" if self.poison == _POISON_LINES else ""
                log.warning("passed over, no update: %s%s", error, more)
            return
        if change.update is not None:
            self._source_topic = change.update.topic
        if change.applied_offset > self._frontier.get(change.partition, NOT_SAID):
            self._frontier[change.partition] = change.applied_offset
        before = self.model_id
        news = self._latest.apply(change)
        self._forget_undelivered_of(before)
        if news:
            self._undelivered.append(change)

    async def _settle(self) -> None:
        """Models may switch once all is read that was there when the reader began."""
        if not isinstance(self._latest, SwitchingUpdates) or not self._first_ends:
            return
        if not await self._topic.behind(self._first_ends):
            self._first_ends = {}
            before = self.model_id
            self._latest.settle()
            self._forget_undelivered_of(before)

    def _forget_undelivered_of(self, model_id: str | None) -> None:
        """After a switch from this model nothing of it may be handed out any more."""
        if self.model_id != model_id:
            self._switches += 1
            self._undelivered.clear()
