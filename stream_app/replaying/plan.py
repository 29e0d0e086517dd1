"""What a replay is going to do, decided once, by its first process, for all of its processes.

Pure: what is asked for, what was planned, and whether the two are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stream_app.errors import FixSettings
from stream_app.replaying.bounds import Bounds
from stream_app.settings import Settings

_FOLD_SETTINGS = (
    "partitions", "window_max_events", "window_max_age_ms", "window_max_bytes", "max_event_bytes",
    "max_text_chars", "max_future_ms", "update_format", "publish_granularities", "isolation_level",
    "publish_interests", "window_expiry_ms",
)  # fmt: skip
"""Settings that change what comes out, beside the model, which is known by its content."""


class Reach(msgspec.Struct, frozen=True):
    """What of one partition is read: ``first`` to before ``end``, published from ``start`` on."""

    first: int
    start: int
    end: int


class Request(msgspec.Struct, frozen=True):
    """What was asked for, in the words of the command line; ``None``: nothing was said."""

    start: str | None = None
    end: str | None = None
    users: tuple[str, ...] | None = None
    """Sorted."""
    warm_up: str | None = None
    model: str | None = None


class Plan(msgspec.Struct, frozen=True):
    """A replay as it was planned. Later revisions know the model, or reach further."""

    revision: int
    name: str
    topic: str
    request: Request
    partitions: dict[int, Reach]
    fold_settings: dict[str, Any]
    notes: tuple[str, ...]
    """What its owner has to know of how far the windows can be trusted."""
    made_ms: int
    model_id: str = ""

    @property
    def total(self) -> int:
        """How many offsets are read."""
        return sum(reach.end - reach.first for reach in self.partitions.values())

    def done(self, committed: Mapping[int, int]) -> int:
        """Return how many of the offsets are behind the group's committed ones."""
        return sum(
            min(max(committed.get(number, reach.first), reach.first), reach.end) - reach.first
            for number, reach in self.partitions.items()
        )

    def bounds(self) -> Bounds:
        """Return what the replay's workers need to know of this."""
        users = self.request.users
        return Bounds(
            {number: reach.end for number, reach in self.partitions.items()},
            {
                number: reach.start
                for number, reach in self.partitions.items()
                if reach.start > reach.first
            },
            None if users is None else frozenset(user.encode() for user in users),
        )


def fold_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that change what comes out of a replay."""
    return {name: getattr(settings, name) for name in _FOLD_SETTINGS}


def check_same(plan: Plan, request: Request, settings: Settings) -> None:
    """Refuse to go on with a replay by other arguments or settings than it began with.

    What the command does not say is as it was planned. The model is compared by its content, when
    it is loaded.

    Raises:
        FixSettings: one line with each difference.
    """
    options = {"start": "--from", "end": "--to", "users": "--users", "warm_up": "--warm-up"}
    differ = [
        f"{option} is {_said(asked)}, was {_said(getattr(plan.request, name))}"
        for name, option in options.items()
        if (asked := getattr(request, name)) not in (None, getattr(plan.request, name))
    ]
    differ += [
        f"setting {name} is {value}, was {plan.fold_settings[name]}"
        for name, value in fold_settings(settings).items()
        if name in plan.fold_settings and value != plan.fold_settings[name]
    ]
    if differ:
        raise FixSettings(
            f"replay {plan.name} was begun otherwise: {'; '.join(differ)}. Go on with what it "
            f"began with (no arguments but --name will do), delete it, or take another name"
        )


def _said(value: Any) -> str:
    if value is None:
        return "not given"
    return f"{len(value)} users" if isinstance(value, tuple) else str(value)
