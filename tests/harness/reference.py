"""What should come out, in the plainest Python: lists, sorting, no cleverness, no imports of ours.

The rules, from the issue and the design: a window holds the newest events of a user by event time,
at most ``max_events`` of them and none further than ``max_age_ms`` behind the newest; an event id
that is held counts once; what left or was too late never comes back; forget removes everything.
Who was silent for more than ``max_age_ms`` + ``expiry_ms`` begins anew with the next event, and
once ``expiry_ms`` more have passed in stream time, nothing is left of them.
The cap by bytes is left out: the tests on a broker stay far below it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.harness.client import Record

FIELDS = ("event_id", "type", "item_id", "text", "time_ms", "session_id", "dwell_ms")


@dataclass
class User:
    """One user's past."""

    held: list[dict[str, Any]] = field(default_factory=list)
    gone: tuple[int, str] = (-1, "")
    """Time and id of the newest event that is not held any more, or never was."""
    counts: Counter[str] = field(default_factory=Counter)
    applied_offset: int = -1


@dataclass
class Reference:
    """The outcome of all records of an events topic."""

    users: dict[str, User] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)
    """User -> offset of the last forget, for those not heard of since."""
    outcomes: Counter[str] = field(default_factory=Counter)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    """User -> the offsets of all their records."""
    forgets: dict[str, list[int]] = field(default_factory=dict)
    partition: dict[str, int] = field(default_factory=dict)
    poison: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of what is no event."""
    stream_ms: dict[int, int] = field(default_factory=dict)
    """Partition -> the newest event time in it."""
    expired: dict[str, int] = field(default_factory=dict)
    """User -> offset of the last event, for those that :meth:`sweep` found silent."""

    def sweep(self, max_age_ms: int, expiry_ms: int) -> Reference:
        """Delete who has been silent for too long when all records have been seen."""
        for name, user in list(self.users.items()):
            silent_ms = self.stream_ms[self.partition[name]] - _newest_ms(user)
            if silent_ms > max_age_ms + 2 * expiry_ms:
                self.expired[name] = self.users.pop(name).applied_offset
        return self


def replay(
    records: Iterable[Record],
    *,
    max_events: int,
    max_age_ms: int = 30 * 86_400_000,
    expiry_ms: int = 180 * 86_400_000,
    poison: Collection[tuple[int, int]] = (),
) -> Reference:
    """Return what ``records`` (by partition and offset) leave behind.

    ``poison`` are the (partition, offset) that a test knows to be no events.
    """
    result = Reference()
    for record in records:
        if (record.partition, record.offset) in poison:
            result.outcomes["dead_letters"] += 1
            result.poison.add((record.partition, record.offset))
            continue
        assert record.value is not None
        event = json.loads(record.value)
        name = event["user_id"]
        result.partition[name] = record.partition
        result.offsets.setdefault(name, []).append(record.offset)
        event.setdefault("time_ms", record.timestamp_ms)
        if event["type"] != "forget":
            before_ms = result.stream_ms.get(record.partition, -1)
            result.stream_ms[record.partition] = max(before_ms, event["time_ms"])
        caps = (max_events, max_age_ms, expiry_ms)
        result.outcomes[_apply(result, event, record.offset, *caps)] += 1
    return result


def _apply(
    result: Reference,
    event: dict[str, Any],
    offset: int,
    max_events: int,
    max_age_ms: int,
    expiry_ms: int,
) -> str:
    name = event["user_id"]
    if event["type"] == "forget":
        result.users.pop(name, None)
        result.forgotten[name] = offset
        result.forgets.setdefault(name, []).append(offset)
        return "forgotten"
    result.forgotten.pop(name, None)
    user = result.users.setdefault(name, User())
    if event["time_ms"] - _newest_ms(user) > max_age_ms + expiry_ms:
        user = result.users[name] = User()
    user.applied_offset = offset
    if event["event_id"] in [held["event_id"] for held in user.held]:
        return "duplicate"
    everything = sorted([*user.held, event], key=_position)
    oldest_kept_ms = everything[-1]["time_ms"] - max_age_ms
    kept = [
        one for one in everything if one["time_ms"] >= oldest_kept_ms and _position(one) > user.gone
    ]
    kept = kept[-max_events:]
    dropped = [one for one in everything if one not in kept]
    user.gone = max([user.gone, *[_position(one) for one in dropped]])
    user.held = kept
    if event not in kept:
        return "late"
    user.counts[event["type"]] += 1
    return "folded"


def _position(event: dict[str, Any]) -> tuple[int, str]:
    return event["time_ms"], event["event_id"]


def _newest_ms(user: User) -> int:
    return int(user.held[-1]["time_ms"]) if user.held else user.gone[0]
