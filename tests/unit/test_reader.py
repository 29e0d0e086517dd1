"""The rule of every reader: per user never back in time."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from stream_app.change import NOT_SAID
from stream_app.errors import FixData
from stream_app.latest_updates import FORGOTTEN_KEPT_MS, Forgotten
from stream_app.reader import Change, LatestUpdates, Staleness, read
from stream_app.updates import Update, UpdateEncoder


def change(user: str, offset: int, *, forgotten: bool = False, model: str = "m") -> Change:
    update = Update(user, (float(offset),), model, 0, "t", 0, offset, 1)
    return Change(user, None if forgotten else update, offset)


def test_lower_is_dropped_and_equal_replaces() -> None:
    latest = LatestUpdates()
    assert latest.apply(change("u", 5))
    assert not latest.apply(change("u", 4))
    refreshed = Change("u", Update("u", (9.0,), "m", 0, "t", 0, 5, 1), 5)
    assert latest.apply(refreshed)
    assert latest.updates["u"].vector == (9.0,)
    assert latest.dropped == 1


def test_a_stale_update_does_not_bring_a_forgotten_user_back() -> None:
    latest = LatestUpdates()
    latest.apply(change("u", 5))
    assert latest.apply(change("u", 6, forgotten=True))
    assert not latest.apply(change("u", 5))
    assert "u" not in latest.updates
    assert latest.apply(change("u", 7))
    assert latest.updates["u"].applied_offset == 7


@given(st.lists(st.builds(change, st.sampled_from("ab"), st.integers(0, 9)), max_size=30))
def test_what_is_held_is_the_newest_ever_seen(changes: list[Change]) -> None:
    latest = LatestUpdates()
    for each in changes:
        latest.apply(each)
    for user in {each.user_id for each in changes}:
        newest = max(each.applied_offset for each in changes if each.user_id == user)
        assert latest.updates[user].applied_offset == newest


def test_who_insists_on_a_model_holds_no_other_and_knows_what_was_dropped() -> None:
    latest = LatestUpdates("new")
    assert not latest.apply(change("u", 5, model="old"))
    assert latest.apply(change("u", 6, model="new"))
    assert not latest.apply(change("u", 7, model="old"))
    assert not latest.apply(change("u", 5, model="new"))
    assert latest.updates["u"].applied_offset == 6
    assert (latest.dropped_of_other_models, latest.dropped) == (2, 1)
    assert latest.models == {"new": 1}
    assert latest.apply(change("u", 8, forgotten=True, model="old")), "forgotten in every model"
    assert not latest.updates
    assert not latest.models


def test_a_mixture_is_counted_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    latest = LatestUpdates()
    for name, offset, model in (("a", 1, "old"), ("b", 2, "old"), ("a", 3, "new")):
        assert latest.apply(change(name, offset, model=model))
    assert latest.models == {"old": 1, "new": 1}
    assert "model new beside those of old" in caplog.text
    latest.apply(change("b", 4, model="new"))
    latest.apply(change("c", 4, model="new"))
    assert latest.models == {"new": 3}
    assert len(caplog.records) == 1


def test_two_partitions_are_compared_by_when_they_were_written() -> None:
    """After a topic got more partitions a user's events, and offsets, begin anew in another."""
    before = Change("u", change("u", 900).update, 900, partition=1, published_ms=1_000)
    after = Change("u", change("u", 3).update, 3, partition=6, published_ms=2_000)
    for order in ((before, after), (after, before)):
        latest = LatestUpdates()
        for each in order:
            latest.apply(each)
        assert latest.updates["u"].applied_offset == 3
    latest.apply(Change("u", None, 4, partition=6, published_ms=3_000))
    assert not latest.apply(before)
    assert "u" not in latest.updates


def test_a_tombstone_made_by_hand_wins_and_stands_in_nobodys_way() -> None:
    latest = LatestUpdates()
    latest.apply(change("u", 5))
    assert latest.apply(Change("u", None, NOT_SAID))
    assert not latest.apply(change("u", 4)), "older than what was forgotten"
    assert latest.apply(change("u", 6))
    assert latest.apply(Change("nobody", None, NOT_SAID))
    assert latest.apply(change("nobody", 0))
    assert set(latest.updates) == {"u", "nobody"}


def test_the_forgotten_are_remembered_for_a_day_of_their_partition() -> None:
    day, forgotten = FORGOTTEN_KEPT_MS, Forgotten()
    forgotten.add(Change("old", None, 1, 0, 1_000), None)
    forgotten.add(Change("elsewhere", None, 1, 1, 1_000), None)
    forgotten.add(Change("again", None, 1, 0, 2_000), None)
    forgotten.add(Change("again", None, 2, 0, 3_000 + day), None)
    assert forgotten.get("old") is None
    assert forgotten.get("elsewhere") is not None
    again = forgotten.get("again")
    assert again is not None
    assert again.applied_offset == 2
    assert len(forgotten) == 2


def test_staleness_has_two_clocks() -> None:
    latest = LatestUpdates()
    update = Update("u", (1.0,), "m", 1_000, "t", 0, 5, 1)
    latest.apply(Change("u", update, 5, 0, published_ms=1_020))
    assert latest.staleness("u", 5_000) == Staleness(event_age_ms=4_000, published_age_ms=3_980)
    latest.apply(Change("u", None, 6))
    assert latest.staleness("u", 5_000) is None
    assert latest.staleness("nobody", 5_000) is None


VALUE = UpdateEncoder("json", "m", "t", [], []).encode(
    "u", np.ones(2, np.float32), None, 7, 3, 9, 1
)


def record(key: bytes | None, value: bytes | None, **headers: bytes) -> ConsumerRecord:
    return ConsumerRecord(
        "updates", 3, 17, 1_234, 0, key, value, None, 0, 0, tuple(headers.items())
    )


def test_a_record_says_where_and_when_it_was_written() -> None:
    found = read(record(b"u", VALUE))
    assert (found.user_id, found.applied_offset) == ("u", 9)
    assert (found.partition, found.published_ms) == (3, 1_234)
    assert read(record(b"u", None, applied_offset=b"8")) == Change("u", None, 8, 3, 1_234)
    assert read(record(b"u", None)) == Change("u", None, NOT_SAID, 3, 1_234)


@pytest.mark.parametrize(
    "bad",
    [
        record(None, VALUE),
        record(b"\xff", VALUE),
        record(b"somebody else", VALUE),
        record(b"u", b"not an update"),
        record(b"u", None, applied_offset=b"x"),
    ],
)
def test_what_is_no_update_is_refused_with_its_place(bad: ConsumerRecord) -> None:
    with pytest.raises(FixData, match=r"^updates/3/17: "):
        read(bad)
