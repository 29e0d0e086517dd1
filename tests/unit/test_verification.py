"""What verification says of a partition, record by record, without any Kafka."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from state import codec
from state.event import EventLimits
from state.window import Window, WindowPolicy
from stream_app.replaying import verification_causes as causes
from stream_app.replaying.verification_published import (
    Anchor,
    Published,
    PublishedPartition,
    vector_digest,
    window_digest,
)
from stream_app.replaying.verification_result import Cause, Difference, Kind, Verified
from stream_app.replaying.verification_walk import Walk
from stream_app.updates import Update

POLICY = WindowPolicy(max_events=3)
END = 1_000


@dataclass
class Record:
    """An events record, as the walk reads it."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int = 1_000


def view(offset: int, user: str, time_ms: int | None = None) -> Record:
    event = {
        "event_id": f"e{offset}",
        "user_id": user,
        "type": "view",
        "item_id": f"i{offset}",
        "time_ms": 100 + offset if time_ms is None else time_ms,
    }
    return Record(offset, user.encode(), msgspec.json.encode(event))


def forget(offset: int, user: str) -> Record:
    event = {"event_id": f"e{offset}", "user_id": user, "type": "forget"}
    return Record(offset, user.encode(), msgspec.json.encode(event))


def window_after(records: list[Record], user: str, policy: WindowPolicy = POLICY) -> Window:
    """Return the user's window, folded by a walk of its own."""
    walk, _ = walked(PublishedPartition(0), records, policy=policy)
    return walk._windows[user.encode()]


def of_window(window: Window, user: str, log_offset: int = 0) -> Published:
    stored = codec.encode(window)
    applied = window.applied_offset
    return Published(applied, user.encode(), False, window_digest(stored), log_offset, 0)


def of_vector(user: str, applied: int, model_id: str = "m") -> Published:
    return Published(applied, user.encode(), True, b"digest", 0, 0, model_id)


def tombstone(user: str, applied: int, *, is_vector: bool) -> Published:
    return Published(applied, user.encode(), is_vector, None, 0, 0)


def walked(
    published: PublishedPartition,
    records: list[Record],
    *,
    start: int = 0,
    policy: WindowPolicy = POLICY,
) -> tuple[Walk, Verified]:
    verified = Verified()
    walk = Walk(
        published, verified, limits=EventLimits(), policy=policy, model_id="m", start=start,
        end=END, wanted=lambda key: True,
    )  # fmt: skip
    walk.take(records)  # type: ignore[arg-type]
    walk.finish()
    return walk, verified


def found(walk: Walk) -> list[tuple[Kind, str, int]]:
    return [(each.kind, each.key.decode(), each.offset) for each in walk.suspects]


EVENTS = [view(0, "ann"), view(1, "bob"), view(2, "ann"), view(4, "ann")]


def complete(begin: int = 0) -> PublishedPartition:
    """Return what a worker that did everything right has published for ``EVENTS``."""
    published = PublishedPartition(begin)
    for count, user in ((1, "ann"), (2, "bob"), (4, "ann")):
        window = window_after(EVENTS[:count], user)
        published.add(of_window(window, user))
        published.add(of_vector(user, window.applied_offset))
    return published


def test_what_is_right_is_compared_at_its_own_offset_and_not_listed() -> None:
    walk, verified = walked(complete(), EVENTS)
    assert found(walk) == []
    assert (verified.windows, verified.vectors, verified.users) == (3, 3, 2)
    assert [(each.published.applied_offset, each.window.applied_offset)
            for each in walk.to_encode] == [(0, 0), (1, 1), (4, 4)]  # fmt: skip


def test_a_window_that_differs_is_listed() -> None:
    published = complete()
    right = window_after(EVENTS, "ann")
    published.add(of_window(msgspec.structs.replace(right, times_ms=(1, 2, 3)), "ann"))
    assert found(walked(published, EVENTS)[0]) == [(Kind.WINDOW, "ann", 4)]


def test_what_is_missing_at_the_end_is_listed() -> None:
    late = view(5, "bob")
    walk, _ = walked(complete(), [*EVENTS, late])
    assert found(walk) == [(Kind.WINDOW_MISSING, "bob", 5), (Kind.VECTOR_MISSING, "bob", 5)]


def test_after_a_forget_a_value_must_not_stand() -> None:
    events = [*EVENTS, forget(6, "ann")]
    walk, _ = walked(complete(), events)
    assert found(walk) == [(Kind.TOMBSTONE_MISSING, "ann", 6)] * 2
    published = complete()
    published.add(tombstone("ann", 6, is_vector=False))
    published.add(tombstone("ann", 6, is_vector=True))
    walk, verified = walked(published, events)
    assert found(walk) == []
    assert verified.tombstones == 2


def test_a_tombstone_of_somebody_who_was_not_forgotten_is_listed() -> None:
    published = complete()
    published.add(tombstone("bob", 3, is_vector=True))
    assert (Kind.TOMBSTONE_UNEXPECTED, "bob", 3) in found(walked(published, EVENTS)[0])


def test_an_update_of_an_offset_without_an_event_of_the_user_is_listed() -> None:
    published = complete()
    published.add(of_vector("bob", 2))
    assert found(walked(published, EVENTS)[0]) == [(Kind.VECTOR, "bob", 2)]


def test_updates_of_another_model_are_counted_only() -> None:
    published = complete()
    published.add(of_vector("ann", 4, "old"))
    walk, verified = walked(published, EVENTS)
    assert found(walk) == []
    assert verified.of_other_models == {"old": 1}


def test_records_that_cannot_be_read_are_listed() -> None:
    published = complete()
    published.add(Published(-1, b"ann", True, b"", 9, 0))
    assert found(walked(published, EVENTS)[0]) == [(Kind.UNREADABLE, "ann", -1)]


def test_what_lies_before_the_start_is_folded_and_not_compared() -> None:
    walk, verified = walked(complete(), EVENTS, start=2)
    assert found(walk) == []
    assert (verified.windows, verified.vectors) == (1, 1)


def test_where_the_log_has_lost_its_beginning_a_user_begins_with_a_window() -> None:
    """Ann has one in the changelog at which the rest of the log begins; bob has none."""
    events = [*EVENTS, view(5, "bob"), view(6, "ann")]
    published = complete(begin=2)
    first = window_after(EVENTS[:3], "ann")
    published.add(of_window(first, "ann"))
    published.anchors[b"ann"] = Anchor(2, codec.encode(first))
    published.add(of_window(window_after(events, "ann"), "ann"))
    published.add(of_vector("ann", 6))
    walk, verified = walked(published, events[2:], start=2)
    assert found(walk) == []
    # Ann's windows at 4 and 6, her first one taken as it is; at 4 and 6 her vectors.
    assert (verified.anchors, verified.windows, verified.vectors) == (1, 3, 2)
    assert verified.history_gone == 0
    del published.anchors[b"ann"]
    walk, verified = walked(published, events[2:], start=2)
    assert found(walk) == []
    assert (verified.windows, verified.vectors, verified.history_gone) == (0, 0, 5)


def test_with_a_forget_everything_is_known_again() -> None:
    events = [forget(3, "ann"), view(4, "ann")]
    published = PublishedPartition(2)
    window = window_after(events, "ann")
    published.add(of_window(window, "ann"))
    published.add(of_vector("ann", 4))
    walk, verified = walked(published, events, start=2)
    assert found(walk) == []
    assert (verified.windows, verified.vectors) == (1, 1)


def test_a_window_of_other_settings_is_told_from_a_damaged_one() -> None:
    right = window_after(EVENTS, "ann")
    shorter = window_after(EVENTS, "ann", WindowPolicy(max_events=2))
    cause, detail = causes.of_window(shorter, right, None)
    assert cause is Cause.WINDOW_SETTINGS
    assert "it holds the last 2 events, by the settings of now the last 3" in detail
    damaged = msgspec.structs.replace(right, event_ids=("e0", "e2", "x4"))
    assert causes.of_window(damaged, right, None) == (Cause.UNKNOWN, "differs in event_ids")
    assert causes.of_window(damaged, right, 3)[0] is Cause.REWOUND
    assert causes.of_window(damaged, right, 5)[0] is Cause.UNKNOWN
    moved = msgspec.structs.replace(right, applied_offset=3)
    assert causes.of_window(moved, right, None)[0] is Cause.NO_SUCH_EVENT


def test_why_a_vector_differs() -> None:
    window = window_after(EVENTS, "ann")
    ours = np.array([0.6, 0.8], np.float32)
    update = Update("ann", (0.6, 0.81), "m", 104, "t", 0, 4, 3)

    def why(said: Update, changed_ms: dict[str, int], rewound_to: int | None = None) -> Cause:
        return causes.of_vector(said, 9_000, window, ours, changed_ms, rewound_to)[0]

    assert why(update, {}) is Cause.UNKNOWN
    assert why(update, {"i4": 9_001}) is Cause.ITEM_TEXT_CHANGED
    assert why(update, {"i4": 1_000}) is Cause.UNKNOWN, "changed long before the update"
    assert why(update, {"i1": 9_001}) is Cause.UNKNOWN, "an item of somebody else"
    shorter = msgspec.structs.replace(update, event_count=2)
    assert why(shorter, {"i4": 9_001}) is Cause.WINDOW_SETTINGS
    assert why(shorter, {}, 3) is Cause.REWOUND
    assert causes.greatest_difference(update, ours) == pytest.approx(0.01, abs=1e-6)
    assert causes.greatest_difference(update, ours[:1]) == float("inf")


def test_a_digest_sees_a_float16_vector_as_it_was_published() -> None:
    ours = np.array([0.1, 0.2], np.float32)
    published = ours.astype(np.float16).astype(np.float32)
    assert vector_digest(published, 1, 2) == vector_digest(ours, 1, 2, half=True)
    assert vector_digest(published, 1, 2) != vector_digest(ours, 1, 2)
    assert vector_digest(ours, 1, 2) != vector_digest(ours, 1, 3)


def test_only_causes_that_are_not_allowed_fail() -> None:
    listed = [
        Difference("ann", 0, 1, Kind.VECTOR, cause, "")
        for cause in (Cause.ITEM_TEXT_CHANGED, Cause.UNKNOWN)
    ]
    verified = Verified(differences=listed)
    assert verified.failing(frozenset()) == 2
    assert verified.failing(frozenset({Cause.ITEM_TEXT_CHANGED})) == 1
    verified.not_examined = 5
    assert verified.failing(frozenset(Cause)) == 5, "their causes are not known"
