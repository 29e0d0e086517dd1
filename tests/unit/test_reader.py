"""The rule of every reader: per user never back in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_app.reader import Change, LatestUpdates
from stream_app.updates import Update


def change(user: str, offset: int, *, forgotten: bool = False) -> Change:
    update = Update(user, (float(offset),), "m", 0, "t", 0, offset, 1)
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
