"""The bytes of a window: round trip, golden bytes, what cannot be read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import codec
from state.event import Event, EventType
from state.window import Window, WindowPolicy, fold
from tests.unit.test_window import events

GOLDEN_V1 = bytes.fromhex(
    "019bcd03e992a26531a26532c4020102"
    "92cf0000018bcfe56800cf0000018bcfe56be8"
    "92a26931c092c0a2683f92c0a27331"
    "92cd04d2c09500010100003a"
    "92ffa0"
)
"""Written by the first release; these bytes must stay readable for ever."""


def golden_window() -> Window:
    window = None
    for offset, event in (
        (
            1000,
            Event("e1", "u", EventType.CLICK, "i1", None, 1_700_000_000_000, None, 1234),
        ),
        (
            1001,
            Event("e2", "u", EventType.PURCHASE, None, "h?", 1_700_000_001_000, "s1", None),
        ),
    ):
        window, _ = fold(window, event, offset, WindowPolicy())
    assert window is not None
    return window


def test_golden_bytes_are_read_and_written() -> None:
    window = golden_window()
    assert codec.encode(window).hex() == GOLDEN_V1.hex()
    assert codec.decode(GOLDEN_V1) == window


@given(st.lists(events, min_size=1, max_size=20))
def test_a_window_survives_its_bytes(stream: list[Event]) -> None:
    window = None
    for offset, event in enumerate(stream):
        window, _ = fold(window, event, offset, WindowPolicy(max_events=5))
    assert window is not None
    stored = codec.encode(window)
    assert codec.decode(stored) == window
    assert codec.encode(codec.decode(stored)) == stored
    assert codec.applied_offset(stored) == window.applied_offset


def test_fields_added_later_may_be_missing_from_old_bytes() -> None:
    shorter = bytes((1, 0x91, 0x07))  # only applied_offset, as if the rest were newer
    assert codec.decode(shorter) == Window(applied_offset=7)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (b"", "version nothing"),
        (b"\x02\x90", "version 2; this build reads version 1"),
        (GOLDEN_V1[:20], "damaged window bytes"),
        (b"\x01\xc3", "damaged window bytes"),
        (b"\x01\x92\x00\x91\xa2e\xa2", "damaged window bytes"),  # an id that is no UTF-8
    ],
)
def test_other_bytes_are_refused_with_the_reason(stored: bytes, says: str) -> None:
    with pytest.raises(codec.UnreadableWindow, match=says):
        codec.decode(stored)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_crash_the_decoder(stored: bytes) -> None:
    with contextlib.suppress(codec.UnreadableWindow):
        assert isinstance(codec.decode(b"\x01" + stored), Window)
