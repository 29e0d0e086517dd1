"""From one model to another for all users at once, and nobody back in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import FixSettings
from stream_app.reader import Change, ModelSwitch, SwitchingUpdates, UpdatesReader
from stream_app.updates import Update


def change(user: str, offset: int, model: str | None = "old") -> Change:
    """``model`` None: forgotten."""
    update = model and Update(user, (float(offset),), model, 0, "t", 0, offset, 1)
    return Change(user, update or None, offset)


def settled(share: float = 1.0) -> tuple[SwitchingUpdates, list[ModelSwitch]]:
    """Return what holds vectors of the model "old" for the users a to d, and its switches."""
    switches: list[ModelSwitch] = []
    latest = SwitchingUpdates(switches.append, model_id="old", share=share)
    for user in "abcd":
        assert latest.apply(change(user, 5))
    latest.settle()
    return latest, switches


def offsets(latest: SwitchingUpdates) -> dict[str, int]:
    return {user: update.applied_offset for user, update in latest.updates.items()}


def test_the_new_model_is_prepared_beside_and_takes_over_at_once() -> None:
    latest, switches = settled()
    before = latest.updates
    for user in "abc":
        assert not latest.apply(change(user, 6, "new"))
    assert offsets(latest) == dict.fromkeys("abcd", 5)
    assert latest.models == {"old": 4, "new": 3}
    assert not switches
    assert latest.apply(change("d", 5, "new")), "as replay promote writes it: an equal offset"
    assert switches == [ModelSwitch("old", "new", users=4, left=0)]
    assert offsets(latest) == {"a": 6, "b": 6, "c": 6, "d": 5}
    assert latest.model_id == "new"
    assert {update.model_id for update in before.values()} == {"old"}, "an old view stays whole"
    assert latest.models == {"new": 4}


def test_a_share_is_enough_and_the_others_are_left_without() -> None:
    latest, switches = settled(share=0.75)
    for user in "abc":
        latest.apply(change(user, 6, "new"))
    assert switches == [ModelSwitch("old", "new", users=3, left=1)]
    assert set(latest.updates) == {"a", "b", "c"}
    assert latest.models == {"new": 3, "old": 1}
    assert latest.apply(change("d", 5, "new"))
    assert set(latest.updates) == {"a", "b", "c", "d"}


def test_an_older_vector_of_the_new_model_does_not_count() -> None:
    """In a rolling restart a user's partition may go back to a worker with the old model."""
    latest, switches = settled()
    for user in "abc":
        latest.apply(change(user, 6, "new"))
    assert latest.apply(change("a", 7, "old"))
    latest.apply(change("d", 6, "new"))
    assert not switches
    assert not latest.apply(change("a", 6, "new"))
    assert latest.dropped == 1
    latest.apply(change("a", 7, "new"))
    assert offsets(latest) == {"a": 7, "b": 6, "c": 6, "d": 6}


def test_forgetting_holds_for_every_model_and_may_be_what_was_missing() -> None:
    latest, switches = settled()
    for user in "abc":
        latest.apply(change(user, 6, "new"))
    assert latest.apply(change("a", 7, None))
    assert offsets(latest) == dict.fromkeys("bcd", 5)
    assert latest.models == {"old": 3, "new": 2}
    assert latest.apply(change("d", 7, None))
    assert switches == [ModelSwitch("old", "new", users=2, left=0)]
    assert not latest.apply(change("a", 6, "new"))
    assert set(latest.updates) == {"b", "c"}


def test_the_first_model_is_what_most_users_have_when_all_is_read() -> None:
    switches: list[ModelSwitch] = []
    latest = SwitchingUpdates(switches.append)
    for user, model in (("a", "old"), ("b", "new"), ("c", "new")):
        assert not latest.apply(change(user, 5, model))
    assert not latest.updates
    latest.settle()
    assert switches == [ModelSwitch(None, "new", users=2, left=1)]
    assert set(latest.updates) == {"b", "c"}


def test_an_empty_topic_begins_with_its_first_update() -> None:
    switches: list[ModelSwitch] = []
    latest = SwitchingUpdates(switches.append)
    latest.settle()
    assert latest.apply(change("a", 5, "new"))
    assert switches == [ModelSwitch(None, "new", users=1, left=0)]


def test_going_back_is_a_switch_like_another() -> None:
    latest, switches = settled()
    for model, offset in (("new", 6), ("old", 7)):
        for user in "abcd":
            latest.apply(change(user, offset, model))
    assert [switch.new for switch in switches] == ["new", "old"]
    assert offsets(latest) == dict.fromkeys("abcd", 7)


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(FixSettings, match="at most 1"):
        SwitchingUpdates(lambda _: None, share=share)


def test_a_switch_needs_to_know_all_users() -> None:
    with pytest.raises(FixSettings, match="start must be 'earliest', not 'now'"):
        UpdatesReader("nowhere:9092", start="now", on_switch=lambda _: None)


CHANGES = st.builds(
    change, st.sampled_from("abc"), st.integers(0, 6), st.sampled_from(["1", "2", "3", None])
)


@given(
    st.lists(CHANGES, max_size=40), st.lists(CHANGES, max_size=40), st.sampled_from([0.5, 0.8, 1])
)
def test_never_a_mixture_never_back_in_time_and_two_updates_a_user_at_most(
    first: list[Change], then: list[Change], share: float
) -> None:
    switches: list[ModelSwitch] = []
    latest = SwitchingUpdates(switches.append, share=share)
    newest: dict[str, Change] = {}
    reached: dict[str, int] = {}
    for number, each in enumerate([*first, *then]):
        if number == len(first):
            latest.settle()
        held = newest.get(each.user_id)
        news = held is None or each.applied_offset >= held.applied_offset
        if news:
            newest[each.user_id] = each
        switched = len(switches)
        handed_out = latest.apply(each)
        assert news or not handed_out
        if len(switches) > switched:
            check_switch(switches[-1], newest, share)
        check_handed_out(latest, newest, reached)


def check_switch(switch: ModelSwitch, newest: dict[str, Change], share: float) -> None:
    """It is of as many users as it says, and of enough of them."""
    models = [each.update.model_id for each in newest.values() if each.update]
    assert switch.users == models.count(switch.new)
    assert switch.users + switch.left == len(models)
    assert switch.old is None or switch.users >= share * len(models)


def check_handed_out(
    latest: SwitchingUpdates, newest: dict[str, Change], reached: dict[str, int]
) -> None:
    updates = latest.updates
    assert {update.model_id for update in updates.values()} <= {latest.model_id}
    users = {user for user, each in newest.items() if each.update}
    assert set(updates) <= users
    held = [user for user in users if user in updates]
    assert sum(latest.models.values()) <= len(users) + len(held)
    for user, update in updates.items():
        assert update.applied_offset >= reached.get(user, -1), "back in time"
        reached[user] = update.applied_offset
    for user, each in newest.items():
        if each.update and each.update.model_id == latest.model_id:
            assert updates[user].applied_offset == each.applied_offset
