"""Who is asked for what: leave-last-out and the order of events of the same time."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.evaluation.interactions import from_events, in_time_order
from encoders.evaluation.prequential import start_of_test
from encoders.evaluation.splits import leave_last_out
from state.event import Event, EventType
from tests.harness.scorers import events_of, world

ROWS = (
    ("u", "a", 10), ("u", "b", 20), ("v", "a", 25), ("u", "c", 30), ("v", "b", 35),
    ("u", "b", 40), ("u", "d", 50), ("v", "c", 55), ("u", "a", 60), ("w", "a", 65),
)  # fmt: skip


def names(data, items) -> list[str]:  # type: ignore[no-untyped-def]
    return [data.item_ids[item] for item in items]


def test_each_users_last_new_item_is_asked_for_knowing_what_came_before() -> None:
    data = world(*ROWS)
    questions = leave_last_out(data)
    assert names(data, questions.targets) == ["d", "c"]
    assert [names(data, data.items[questions.past(at)]) for at in range(2)] == [
        ["a", "b", "c", "b"],
        ["a", "b"],
    ]
    assert names(data, questions.seen(0)) == ["a", "b", "c"]


def test_validation_asks_for_the_item_before_and_leaves_the_last_out_of_training() -> None:
    data = world(*ROWS)
    questions = leave_last_out(data, "valid")
    assert names(data, questions.targets) == ["c", "b"]
    trained = np.flatnonzero(questions.training)
    assert names(data, data.items[trained]) == ["a", "b", "a", "a"]  # w is asked nothing


def test_nothing_from_the_answer_on_is_trained_on() -> None:
    data = world(*ROWS)
    questions = leave_last_out(data)
    for user, asked_at in zip(questions.users, questions.asked_at, strict=True):
        late = np.flatnonzero((data.users == user) & (np.arange(len(data)) >= asked_at))
        assert not questions.training[late].any()
    assert questions.training.sum() == 7


def test_a_sample_asks_fewer_and_trains_on_the_same() -> None:
    data = world(*ROWS)
    sample = leave_last_out(data, users=1, seed=3)
    assert len(sample) == 1
    assert np.array_equal(sample.training, leave_last_out(data).training)
    assert sample.users == leave_last_out(data, users=1, seed=3).users


def test_events_of_one_time_are_shuffled_by_the_seed_or_keep_the_files_order() -> None:
    rows = [("u", item, 10) for item in "abcdef"] + [("u", "g", 5)]
    data = from_events(events_of(*rows), {name: name for name in "abcdefg"})

    def order(**how: object) -> str:
        ordered = in_time_order(data, **how)  # type: ignore[arg-type]
        return "".join(names(ordered, ordered.items))

    assert order(order="file") == "gabcdef"
    assert order(seed=1) == order(seed=1)
    assert order(seed=1) != order(seed=2)
    assert sorted(order(seed=1)) == sorted("gabcdef")
    assert order(seed=1)[0] == "g"


def test_events_keep_their_own_text_and_forgets_leave_nothing() -> None:
    events = [
        Event("1", "u", EventType.SEARCH, text="heist", time_ms=1),
        Event("2", "u", EventType.VIEW, item_id="a", time_ms=2),
        Event("3", "u", EventType.VIEW, item_id="unknown", time_ms=3),
        Event("4", "u", EventType.FORGET, time_ms=4),
        Event("5", "u", EventType.REVIEW, item_id="b", text="good", time_ms=5),
    ]
    data = from_events(events, {"a": "A", "b": "B"}, {"gender": {"u": "F"}}, {"a": ("Drama",)})
    assert data.texts == ("A", "B", "heist", "good")
    assert data.rows.tolist() == [2, 0, -1, 3]
    assert data.items.tolist() == [-1, 0, -1, 1]
    assert data.groups == {"gender": ("F",)}
    assert data.genres == (("Drama",), ())


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="no user has three different items"):
        leave_last_out(world(("u", "a", 1), ("u", "b", 2)))
    backwards = from_events(events_of(("u", "a", 2), ("u", "b", 1)), {"a": "a", "b": "b"})
    with pytest.raises(ValueError, match="not in time order"):
        leave_last_out(backwards)


def test_the_test_period_starts_with_the_first_event_of_its_millisecond() -> None:
    data = world(*(("u", item, time) for item, time in zip("abcdef", (1, 2, 3, 3, 3, 4))))  # noqa: B905
    assert start_of_test(data, 0.4) == 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        start_of_test(data, 1.0)
