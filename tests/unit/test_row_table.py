"""Rows of texts: look-up, eviction of the longest unused, and what may not be evicted."""

from __future__ import annotations

import numpy as np
import pytest

from stream_app.row_table import NEW, UNKNOWN, RowsExhausted, TextRows


def filled(capacity: int) -> TextRows:
    rows = TextRows(capacity)
    rows.new_batch()
    for number in range(capacity):
        rows.assign(f"t{number}")
    return rows


def test_a_key_is_new_then_has_a_row_then_is_new_again() -> None:
    rows = TextRows(8)
    rows.new_batch()
    assert rows["a"] == NEW
    row = rows.assign("a")
    assert rows["a"] == row >= 0
    rows.discard("a")
    assert rows["a"] == NEW


def test_the_longest_unused_row_is_given_again() -> None:
    rows = filled(8)
    oldest = rows["t3"]
    for clock in range(2):
        rows.new_batch()
        rows.use(np.array([rows[f"t{n}"] for n in range(8) if n != 3 or clock < 0], np.int32))
    rows.new_batch()
    assert rows.assign("fresh") == oldest
    assert rows["t3"] == NEW
    assert all(rows[f"t{n}"] >= 0 for n in range(8) if n != 3)


def test_rows_of_the_present_batch_are_never_given_away() -> None:
    rows = filled(8)
    with pytest.raises(RowsExhausted, match="8 text rows"):
        rows.assign("one more")
    assert sorted(rows.values()) == list(range(8))


def test_unknown_keys_are_remembered_up_to_the_capacity() -> None:
    rows = TextRows(8)
    for number in range(20):
        rows.mark_unknown(f"x{number}")
    assert list(rows.unknown) == [f"x{number}" for number in range(12, 20)]
    assert rows["x19"] == UNKNOWN
    assert rows["x0"] == NEW


def test_two_keys_never_share_a_row() -> None:
    rows = TextRows(16)
    for number in range(200):
        rows.new_batch()
        rows.assign(f"t{number}")
        held = [row for row in rows.values() if row >= 0]
        assert len(held) == len(set(held)) <= 16


def test_a_row_that_is_freed_waits_for_the_next_batch() -> None:
    """The present one may have looked it up already, and means the text that lay in it."""
    rows = filled(8)
    freed = rows["t3"]
    rows.discard("t3")
    with pytest.raises(RowsExhausted):
        rows.assign("fresh")
    rows.new_batch()
    assert rows.assign("fresh") == freed


def test_a_reset_forgets_all_rows_and_not_what_is_unknown() -> None:
    rows = filled(8)
    rows.mark_unknown("x")
    rows.reset()
    assert len(rows) == 0
    assert rows["x"] == NEW, "it is looked up anew"
    assert list(rows.unknown) == ["x"]
    rows.new_batch()
    assert sorted(rows.assign(f"n{n}") for n in range(8)) == list(range(8))


def test_who_gets_a_row_is_no_longer_unknown() -> None:
    rows = TextRows(8)
    rows.mark_unknown("x")
    rows.reset()
    rows.new_batch()
    rows.assign("x")
    assert not rows.unknown
