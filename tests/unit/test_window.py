"""The fold, as properties: order, redelivery, doubling, caps, lateness, forgetting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from state.event import WINDOW_TYPES, Event, EventType
from state.window import Outcome, Window, WindowPolicy, fold

POLICY = WindowPolicy(max_events=4, max_age_ms=50, max_bytes=1_000, expiry_ms=10)
"""Times go to 100, so that some users of these tests are silent for longer than 60."""
KNOWN_FOR_EVER = WindowPolicy(max_events=4, max_age_ms=50, max_bytes=1_000)

events = st.builds(
    Event,
    event_id=st.sampled_from([f"e{number}" for number in range(12)]),
    user_id=st.just("u"),
    type=st.sampled_from(WINDOW_TYPES),
    item_id=st.one_of(st.none(), st.sampled_from(["i1", "i2", "ü" * 30])),
    text=st.one_of(st.none(), st.text(max_size=200)),
    time_ms=st.integers(0, 100),
    session_id=st.one_of(st.none(), st.just("s")),
    dwell_ms=st.one_of(st.none(), st.integers(0, 9)),
)
distinct_events = st.lists(events, unique_by=lambda event: event.event_id, max_size=12)


def folded(
    stream: Sequence[Event], policy: WindowPolicy = POLICY
) -> tuple[Window | None, list[Outcome]]:
    window: Window | None = None
    outcomes = []
    for offset, event in enumerate(stream):
        window, outcome = fold(window, event, offset, policy)
        outcomes.append(outcome)
    return window, outcomes


def held(window: Window | None) -> list[Event]:
    return [] if window is None else list(window.events("u"))


def weight(event: Event) -> int:
    texts = (event.event_id, event.item_id, event.text, event.session_id)
    return 24 + sum(len(text.encode()) for text in texts if text is not None)


def newest_that_fit(stream: Sequence[Event], policy: WindowPolicy) -> list[Event]:
    """The longest run of newest events within every cap: what a window must hold."""
    ordered = sorted(stream, key=lambda event: (event.time_ms, event.event_id))
    for start in range(len(ordered) + 1):
        kept = ordered[start:]
        if not kept or (
            len(kept) <= policy.max_events
            and kept[0].time_ms >= kept[-1].time_ms - policy.max_age_ms
            and sum(map(weight, kept)) <= policy.max_bytes
        ):
            return kept
    raise AssertionError("unreachable: nothing always fits")


@given(distinct_events)
def test_a_window_holds_the_newest_events_within_every_cap(stream: list[Event]) -> None:
    window, _ = folded(stream)
    assert held(window) == newest_that_fit(stream, POLICY)


@given(distinct_events, st.randoms(use_true_random=False))
def test_the_held_events_do_not_depend_on_the_order_of_arrival(stream, random) -> None:
    shuffled = list(stream)
    random.shuffle(shuffled)
    assert held(folded(shuffled)[0]) == held(folded(stream)[0])


@given(distinct_events, st.data())
def test_an_event_produced_twice_counts_once(stream: list[Event], data: st.DataObject) -> None:
    if not stream:
        return
    twice = list(stream)
    again = data.draw(st.sampled_from(stream))
    twice.insert(data.draw(st.integers(stream.index(again) + 1, len(stream))), again)
    window, outcomes = folded(twice)
    once, outcomes_once = folded(stream)
    assert held(window) == held(once)
    assert outcomes.count(Outcome.FOLDED) == outcomes_once.count(Outcome.FOLDED)
    assert window is not None
    assert once is not None
    assert window.counts == once.counts


@given(distinct_events, st.integers(0, 11))
def test_redelivered_records_change_nothing(stream: list[Event], since: int) -> None:
    window, _ = folded(stream)
    for offset, event in list(enumerate(stream))[since:]:
        again, outcome = fold(window, event, offset, POLICY)
        assert outcome is Outcome.REDELIVERED
        assert again is window


@given(st.lists(events, max_size=30))
def test_the_caps_hold_after_every_event(stream: list[Event]) -> None:
    window: Window | None = None
    for offset, event in enumerate(stream):
        window, outcome = fold(window, event, offset, POLICY)
        assert window is not None
        now = held(window)
        assert window.held_bytes == sum(map(weight, now)) <= POLICY.max_bytes
        assert len(now) <= POLICY.max_events
        assert window.applied_offset == offset
        assert (event in now) == (outcome is Outcome.FOLDED) or outcome is Outcome.DUPLICATE


@given(st.lists(events, max_size=30))
def test_counts_are_of_what_was_folded(stream: list[Event]) -> None:
    window, outcomes = folded(stream, KNOWN_FOR_EVER)
    kept = [event for event, outcome in zip(stream, outcomes, strict=True) if outcome == 0]
    wanted = tuple(sum(event.type is kind for event in kept) for kind in WINDOW_TYPES)
    assert (window.counts if window else (0,) * len(WINDOW_TYPES)) == wanted


LATE_MS = POLICY.expiry_ms


@given(
    st.lists(events, max_size=12),
    st.lists(st.tuples(events, st.integers(0, 30), st.integers(0, LATE_MS)), max_size=12),
)
def test_it_makes_no_difference_whether_a_silent_users_window_was_deleted(
    before: list[Event], later: list[tuple[Event, int, int]]
) -> None:
    """A sweep may come at any time, as long as later events are at most ``expiry_ms`` late."""
    kept, _ = folded(before)
    deleted: Window | None = None
    newest_ms = -1 if kept is None else kept.newest_ms
    stream_ms = newest_ms + POLICY.sweep_ms + 1  # the first moment at which it may be deleted
    for number, (content, step_ms, late_ms) in enumerate(later):
        event = msgspec.structs.replace(content, time_ms=stream_ms - late_ms)
        stream_ms += step_ms
        kept, outcome = fold(kept, event, 100 + number, POLICY)
        deleted, outcome_if_deleted = fold(deleted, event, 100 + number, POLICY)
        assert outcome is outcome_if_deleted
        assert kept == deleted


@given(st.lists(events, max_size=30))
def test_counts_are_of_the_time_since_the_last_silence(stream: list[Event]) -> None:
    window, outcomes = folded(stream)
    newest_ms, counts = -1, [0] * len(WINDOW_TYPES)
    for event, outcome in zip(stream, outcomes, strict=True):
        if event.time_ms - newest_ms > POLICY.max_age_ms + POLICY.expiry_ms:
            counts = [0] * len(WINDOW_TYPES)
        if outcome is not Outcome.DUPLICATE:
            newest_ms = max(newest_ms, event.time_ms)
        counts[WINDOW_TYPES.index(event.type)] += outcome is Outcome.FOLDED
    assert (window.counts if window else (0,) * len(WINDOW_TYPES)) == tuple(counts)


def test_silence_begins_anew_only_beyond_its_bound() -> None:
    for gap_ms, all_time in ((60, 2), (61, 1)):
        window, outcomes = folded([view("a", 10), view("b", 10 + gap_ms)])
        assert outcomes == [Outcome.FOLDED] * 2
        assert [event.event_id for event in held(window)] == ["b"]
        assert window is not None
        assert window.counts[0] == all_time


def test_the_same_event_id_after_a_silence_is_another_event() -> None:
    window, outcomes = folded([view("a", 10), view("a", 80)])
    assert outcomes == [Outcome.FOLDED] * 2
    assert window is not None
    assert window.times_ms == (80,)


def view(name: str, time_ms: int, **more: object) -> Event:
    return Event(name, "u", EventType.VIEW, item_id=name, time_ms=time_ms, **more)  # type: ignore[arg-type]


def test_an_event_that_left_cannot_come_back() -> None:
    stream = [view(f"e{time_ms:02}", time_ms) for time_ms in range(6)]
    window, _ = folded(stream)
    assert [event.event_id for event in held(window)] == ["e02", "e03", "e04", "e05"]
    after, outcome = fold(window, stream[1], 6, POLICY)
    assert outcome is Outcome.LATE
    assert held(after) == held(window)
    assert after is not None
    assert after.applied_offset == 6


def test_a_late_event_takes_its_place_by_time() -> None:
    window, outcomes = folded([view("a", 10), view("c", 30), view("b", 20)])
    assert outcomes == [Outcome.FOLDED] * 3
    assert [event.event_id for event in held(window)] == ["a", "b", "c"]


def test_age_is_counted_from_the_newest_event() -> None:
    window, outcomes = folded([view("old", 0), view("new", 51), view("late", 0)])
    assert [event.event_id for event in held(window)] == ["new"]
    assert outcomes == [Outcome.FOLDED, Outcome.FOLDED, Outcome.LATE]


def test_one_event_in_the_middle_that_is_too_heavy_takes_the_older_ones_along() -> None:
    policy = WindowPolicy(max_events=10, max_age_ms=100, max_bytes=200)
    heavy = view("b", 20, text="x" * 150)
    for order in itertools.permutations([view("a", 10), heavy, view("c", 30), view("d", 40)]):
        window, _ = folded(order, policy)
        assert [event.event_id for event in held(window)] == ["c", "d"]


def test_a_forget_leaves_nothing_and_the_user_begins_anew() -> None:
    forget = Event("f", "u", EventType.FORGET, time_ms=15)
    window, outcomes = folded([view("a", 10), forget])
    assert window is None
    assert outcomes[-1] is Outcome.FORGOTTEN
    window, outcome = fold(window, view("a", 10), 2, POLICY)
    assert outcome is Outcome.FOLDED
    assert window is not None
    assert window.counts[0] == 1


def test_a_redelivered_forget_does_not_delete_what_came_after_it() -> None:
    forget = Event("f", "u", EventType.FORGET, time_ms=15)
    window, _ = folded([view("a", 10), forget, view("b", 20)])
    assert fold(window, forget, 1, POLICY) == (window, Outcome.REDELIVERED)
