"""From one model's vectors to another's, for all users at once.

While workers are restarted with another model, or a replay with it is promoted, the topic holds
vectors of both. What is handed out stays of the old one until the new one has come far enough.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stream_app.change import Change, is_stale
from stream_app.errors import FixSettings
from stream_app.latest_updates import Forgotten, Staleness, UpdatesView, staleness

log = logging.getLogger(__name__)


class ModelSwitch(NamedTuple):
    """All vectors handed out before this were of ``old``; from now on all are of ``new``."""

    old: str | None
    """``None``: the first model, found in the topic."""
    new: str
    users: int
    """Who have a vector now."""
    left: int
    """Who have none of the new model yet. They come back with their next event, or with
    ``replay promote``."""


class SwitchingUpdates:
    """The latest update of every user, of one model at a time.

    Of each user two updates are held at most: the latest of the model that is handed out, and
    beside it the latest of another model, as long as it is no older. When such vectors are there
    of a ``share`` of all users, they take the others' place at once, and ``on_switch`` is called.
    So a switch takes no user back in time; who has no vector of the new model, or only an older
    one, is left without.

    Before ``settle`` says that the topic was read to its end, nothing switches: of the first ten
    users, ten may well have a vector of the new model. Without a ``model_id`` nothing is handed
    out until then either; what most users have is then the first model.
    """

    def __init__(
        self,
        on_switch: Callable[[ModelSwitch], None],
        *,
        model_id: str | None = None,
        share: float = 1.0,
    ) -> None:
        if not 0 < share <= 1:
            raise FixSettings(f"a share of users is above 0 and at most 1, not {share}")
        self.model_id = model_id
        """The one handed out."""
        self.dropped = 0
        """Stale records seen."""
        self.dropped_of_other_models = 0
        """Always 0: they are kept beside."""
        self._on_switch = on_switch
        self._share = share
        self._settled = False
        self._newest: dict[str, Change] = {}
        self._handed_out: dict[str, Change] = {}
        self._beside: dict[str, Change] = {}
        self._models_beside: Counter[str] = Counter()
        self._forgotten = Forgotten()

    @property
    def updates(self) -> UpdatesView:
        """User id -> latest update of ``model_id``: a live read-only view until the next switch.

        A view taken before a switch stays as it was then.
        """
        return UpdatesView(self._handed_out)

    @property
    def models(self) -> Mapping[str, int]:
        """Model id -> users who have a vector of it, handed out or beside."""
        found = Counter(self._models_beside)
        if self.model_id is not None:
            found[self.model_id] = len(self._handed_out)
        return +found

    def staleness(self, user_id: str, now_ms: int) -> Staleness | None:
        """Return how old the vector handed out is at ``now_ms``; ``None`` where there is none."""
        return staleness(self._handed_out.get(user_id), now_ms)

    def settle(self) -> None:
        """From now on models may switch: what the topic held at the start is taken up."""
        self._settled = True
        self._switch_if_covered()

    def apply(self, change: Change) -> bool:
        """Take up a change; return whether it is news of what is handed out."""
        user, update = change.user_id, change.update
        held = self._newest.get(user) or self._forgotten.get(user)
        if held is not None and is_stale(change, held):
            self.dropped += 1
            return False
        self._drop_beside(user)
        if update is None:
            self._newest.pop(user, None)
            self._handed_out.pop(user, None)
            self._forgotten.add(change, held)
            self._switch_if_covered()
            return True
        self._forgotten.drop(user)
        self._newest[user] = change
        if update.model_id != self.model_id:
            self._beside[user] = change
            self._models_beside[update.model_id] += 1
            self._switch_if_covered()
        else:
            self._handed_out[user] = change
        return update.model_id == self.model_id

    def _drop_beside(self, user_id: str) -> None:
        old = self._beside.pop(user_id, None)
        if old is not None and old.update is not None:
            self._models_beside[old.update.model_id] -= 1

    def _switch_if_covered(self) -> None:
        if not self._settled or not self._beside:
            return
        ((best, users),) = self._models_beside.most_common(1)
        if self.model_id is None or users >= self._share * len(self._newest):
            self._switch(best)

    def _switch(self, model_id: str) -> None:
        """New dictionaries throughout: who looks at the old ones sees no mixture."""
        old, self.model_id = self.model_id, model_id
        self._handed_out = {
            user: change for user, change in self._newest.items() if _of(change) == model_id
        }
        self._beside = {
            user: change for user, change in self._newest.items() if _of(change) != model_id
        }
        self._models_beside = Counter(_of(change) for change in self._beside.values())
        switch = ModelSwitch(old, model_id, len(self._handed_out), len(self._beside))
        log.info("vectors are of model %s now, not of %s: %d users, %d have none yet",
                 model_id, old, switch.users, switch.left)  # fmt: skip
        self._on_switch(switch)


def _of(change: Change) -> str:
    assert change.update is not None
    return change.update.model_id
