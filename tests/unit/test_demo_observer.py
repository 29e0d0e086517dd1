"""Pairing events with the updates that contain them, in whatever order news of them comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_app.demo_observer import Observer
from stream_app.demo_report import checks


@dataclass
class Record:
    key: bytes
    applied_offset: int
    value: bytes = b"{}"
    headers: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.headers = [("applied_offset", b"%d" % self.applied_offset)]


def test_an_update_reaches_every_event_up_to_its_offset() -> None:
    observer = Observer()
    for offset in (3, 5, 8):
        observer.sent(b"u", 0, offset, 0.0)
    observer.read(Record(b"u", 5))
    assert len(observer.latencies_ms) == 2
    assert observer.users_behind() == ["u"]
    observer.read(Record(b"u", 8))
    assert len(observer.latencies_ms) == 3
    assert observer.users_behind() == []


def test_an_update_may_be_read_before_its_event_is_acknowledged() -> None:
    observer = Observer()
    observer.read(Record(b"u", 4))
    observer.sent(b"u", 0, 4, 0.0)
    assert len(observer.latencies_ms) == 1
    assert observer.users_behind() == []


def test_an_older_update_is_dropped_and_an_equal_one_replaces() -> None:
    observer = Observer()
    observer.read(Record(b"u", 4, b'{"n": 1}'))
    observer.read(Record(b"u", 3, b'{"n": 2}'))
    assert observer.update("u") == {"n": 1}
    observer.read(Record(b"u", 4, b'{"n": 3}'))
    assert observer.update("u") == {"n": 3}
    assert observer.updates_read == 3


def test_the_checks_hold_only_if_every_sum_comes_out() -> None:
    observer = Observer()
    observer.sent(b"u", 0, 0, 0.0)
    observer.read(Record(b"u", 0))
    right = {"folded": 1, "updates_published": 1}
    assert all(check.holds for check in checks(1, 1, right, observer))
    lost = {"folded": 0, "updates_published": 1}
    assert [check.holds for check in checks(1, 1, lost, observer)] == [False, True, True]
    unread = {"folded": 1, "updates_published": 2}
    assert [check.holds for check in checks(1, 1, unread, observer)] == [True, False, True]
    observer.sent(b"u", 0, 1, 0.0)
    assert [check.holds for check in checks(1, 1, right, observer)] == [True, True, False]
