"""The rule of every reader, without any Kafka: per user never back in time."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from stream_app.change import Change, is_stale
from stream_app.updates import Update

log = logging.getLogger(__name__)

FORGOTTEN_KEPT_MS = 86_400_000
"""How long a forgotten user's offset is remembered: a day, as Kafka keeps a tombstone by default.
A worker that wrote an older update behind it has written the right one again long before."""


class Staleness(NamedTuple):
    """How old a vector is, by two clocks; ``UpdatesReader.source_lag`` is the third measure."""

    event_age_ms: int
    """Since the newest event in the window, by that event's own time: how long the user has been
    quiet. It says nothing about the stream."""
    published_age_ms: int
    """Since the record was written. Not much more than the above where the stream is well; much
    more is a vector that another item text, a restart or a replay has made again."""


class UpdatesView(Mapping[str, Update]):
    """User id -> update, as a live read-only view of changes."""

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes

    def __getitem__(self, user_id: str) -> Update:
        update = self._changes[user_id].update
        if update is None:
            raise KeyError(user_id)
        return update

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def snapshot(self) -> dict[str, Update]:
        """Return a copy as of now, also where another thread goes on changing what is viewed."""
        changes = list(self._changes.items())  # one step under the interpreter's lock
        return {user: change.update for user, change in changes if change.update is not None}


def staleness(held: Change | None, now_ms: int) -> Staleness | None:
    """Return how old a vector is at ``now_ms``; ``None`` where there is no vector."""
    if held is None or held.update is None:
        return None
    return Staleness(now_ms - held.update.time_ms, now_ms - held.published_ms)


class Forgotten:
    """The last change of users who were forgotten, for as long as older updates may come."""

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}
        self._oldest_first: dict[int, deque[Change]] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def get(self, user_id: str) -> Change | None:
        """Return the user's tombstone, if it is remembered."""
        return self._changes.get(user_id)

    def add(self, change: Change, held: Change | None) -> None:
        """Remember a tombstone, of no lower offset than the change ``held``; drop those of its
        partition that are a day older."""
        if held is not None and change.partition == held.partition:
            offset = max(change.applied_offset, held.applied_offset)
            change = change._replace(applied_offset=offset)
        self._changes[change.user_id] = change
        line = self._oldest_first.setdefault(change.partition, deque())
        line.append(change)
        while line[0].published_ms < change.published_ms - FORGOTTEN_KEPT_MS:
            old = line.popleft()
            if self._changes.get(old.user_id) is old:
                del self._changes[old.user_id]

    def drop(self, user_id: str) -> None:
        """The user is back."""
        self._changes.pop(user_id, None)


class LatestUpdates:
    """The latest update of every user, of all models or of one.

    A record whose ``applied_offset`` is lower than the one held is stale (a worker published again
    after a restart, or was frozen) and dropped. An equal one replaces: the same window, perhaps
    with an item text that arrived later, or another model.

    Vectors of two models lie in two spaces and must not be compared. ``model_id`` insists on one:
    updates of others are dropped and counted, and the user's last one of this model stays. Without
    it, ``models`` says how many users' vectors are of which, and a second model is a warning in
    the log; ``SwitchingUpdates`` goes from one to the next. Forgetting a user holds for every
    model.
    """

    def __init__(self, model_id: str | None = None) -> None:
        self.model_id = model_id
        """The one insisted on."""
        self.dropped = 0
        """Stale records seen."""
        self.dropped_of_other_models = 0
        """Updates seen of models other than the one insisted on."""
        self._held: dict[str, Change] = {}
        self._forgotten = Forgotten()
        self._models: Counter[str] = Counter()

    @property
    def updates(self) -> UpdatesView:
        """User id -> latest update, as a live read-only view."""
        return UpdatesView(self._held)

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users whose latest update is of it. More than one: do not compare them."""
        return MappingProxyType(self._models)

    def staleness(self, user_id: str, now_ms: int) -> Staleness | None:
        """Return how old the user's vector is at ``now_ms``; ``None`` where there is none."""
        return staleness(self._held.get(user_id), now_ms)

    def apply(self, change: Change) -> bool:
        """Take up a change; return whether it was news."""
        update = change.update
        if update is not None and self.model_id not in (None, update.model_id):
            self.dropped_of_other_models += 1
            return False
        held = self._held.get(change.user_id) or self._forgotten.get(change.user_id)
        if held is not None and is_stale(change, held):
            self.dropped += 1
            return False
        if held is not None and held.update is not None:
            self._count(held.update.model_id, -1)
        if update is None:
            self._held.pop(change.user_id, None)
            self._forgotten.add(change, held)
        else:
            self._forgotten.drop(change.user_id)
            self._held[change.user_id] = change
            self._count(update.model_id, 1)
        return True

    def _count(self, model_id: str, users: int) -> None:
        if model_id not in self._models and self._models:
            log.warning(
                "updates of model %s beside those of %s: vectors of two models must not be "
                "compared; name the one you want as model_id, or give on_switch",
                model_id, ", ".join(self._models),
            )  # fmt: skip
        self._models[model_id] += users
        if not self._models[model_id]:
            del self._models[model_id]
