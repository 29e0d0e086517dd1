"""The rule of every reader: per user never back in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app import reader
from stream_app.reader import Change, LatestUpdates
from stream_app.updates import Update


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


def test_who_left_is_remembered_for_stale_records_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "_MAX_FORGOTTEN", 3)
    latest = LatestUpdates()
    for offset, name in enumerate("abca"):
        latest.apply(change(name, 10 + offset, forgotten=True))
    latest.apply(change("d", 20, forgotten=True))
    assert not latest.apply(change("a", 12)), "told of twice, so the newest but one"
    assert latest.apply(change("b", 9)), "the oldest has gone from memory"
