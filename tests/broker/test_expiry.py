"""Silent users leave window, changelog, updates and disk; whoever comes back begins anew."""

from __future__ import annotations

import pytest

from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.client import Message
from tests.harness.load import BASE_MS, event_message

pytestmark = pytest.mark.broker

AGE_MS, EXPIRY_MS = 10_000, 5_000
SHORT: dict[str, object] = {
    "window_max_age_ms": AGE_MS,
    "window_expiry_ms": EXPIRY_MS,
    "partitions": 1,
}
SILENT = 600
"""More than two slices of the sweep."""


def view(user: str, name: str, time_ms: int) -> Message:
    return event_message(
        {"event_id": name, "user_id": user, "type": "view", "item_id": "i", "time_ms": time_ms}
    )


def test_silent_users_leave_everywhere_and_may_come_back(make_stream: StreamMaker) -> None:
    stream = make_stream(**SHORT, hot_windows_max=50)
    stream.send([view(f"u{n}", f"a{n}", BASE_MS + n) for n in range(SILENT)])
    stream.send([view("late-leaver", "b", BASE_MS + 1_000)])
    (worker,) = stream.start_workers(1)
    stream.drain()
    stream.send([view("clock", "c", BASE_MS + SILENT - 1 + AGE_MS + 2 * EXPIRY_MS)])
    worker.wait_counts("expired", SILENT - 1)
    stream.wait_swept()
    left = set(checks.windows_in(stream.changelog()))
    assert left == {"late-leaver", "clock", f"u{SILENT - 1}"}, "the last is exactly at the bound"

    stream.send([view("u7", "back", BASE_MS + 21_000)])
    stream.wait_swept()
    reference = stream.verify(swept=True)
    windows = checks.windows_in(stream.changelog())
    assert windows["u7"] == checks.plain_user(reference.users["u7"]), "as if never gone before"
    assert [event["event_id"] for event in windows["u7"]["held"]] == ["back"]
    counts = worker.status()["counts"]
    assert counts["expired"] == counts["tombstones"] == SILENT
    assert len(reference.expired) == SILENT - 1, "one came back"


def test_an_event_later_than_the_expiry_begins_a_window_that_expires_again(
    make_stream: StreamMaker,
) -> None:
    """Where a replay may differ: the event is further behind than ``window_expiry_ms``."""
    stream = make_stream(**SHORT)
    stream.send([view("u", "a", BASE_MS), view("clock", "c", BASE_MS + 30_000)])
    (worker,) = stream.start_workers(1)
    worker.wait_counts("expired", 1)
    stream.send([view("u", "late", BASE_MS + 1)])
    stream.drain()
    window = checks.windows_in(stream.changelog())["u"]
    assert [event["event_id"] for event in window["held"]] == ["late"]
    assert window["counts"] == {"view": 1}
    stream.send([view("clock", "d", BASE_MS + 31_000)])
    worker.wait_counts("expired", 2)
    stream.wait_swept()
    stream.stop_workers()
    assert checks.last_per_key(stream.updates())["u"].value is None
