"""The windows' database: what a restore may overwrite, what a damaged one becomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from state import codec, era
from state.table import ChangelogRecord, PartitionTable, open_or_rebuild
from state.window import Window

CACHE_BYTES = 1 << 20


def stored(applied_offset: int) -> bytes:
    return codec.encode(Window(applied_offset=applied_offset))


def record(key: bytes, applied_offset: int) -> ChangelogRecord:
    return ChangelogRecord(key, stored(applied_offset), applied_offset)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[PartitionTable]:
    table, damage = open_or_rebuild(tmp_path / "windows-0", CACHE_BYTES)
    assert damage is None
    yield table
    table.close()


def test_the_read_cache_is_as_large_as_set_whenever_a_table_is_opened(tmp_path: Path) -> None:
    """RocksDB stores most options of a database and opens it with those; not that of the cache."""
    for cache_bytes in (CACHE_BYTES, CACHE_BYTES, 3 * CACHE_BYTES):
        table = PartitionTable(tmp_path / "t", cache_bytes)
        assert table._db.property_int_value("rocksdb.block-cache-capacity") == cache_bytes
        table.close()


def test_rows_and_the_changelog_offset_survive_a_close(tmp_path: Path) -> None:
    table = PartitionTable(tmp_path / "t", CACHE_BYTES)
    assert table.changelog_offset() is None
    table.write([(b"a", b"1"), (b"b", b"2")], 41)
    table.write([(b"a", None)], 42)
    table.close()
    again = PartitionTable(tmp_path / "t", CACHE_BYTES)
    assert dict(again.items()) == {b"b": b"2"}
    assert again.get_many([b"a", b"b", b"c"]) == [None, b"2", None]
    assert again.changelog_offset() == 42
    again.close()


def test_a_restore_never_puts_an_older_window_over_a_newer_one(table: PartitionTable) -> None:
    table.write([(b"a", stored(5))], 1)
    assert table.restore([record(b"a", 4), record(b"b", 7), record(b"b", 6)], 9) == {
        b"a": 5,
        b"b": 7,
    }
    assert dict(table.items()) == {b"a": stored(5), b"b": stored(7)}
    assert table.changelog_offset() == 9


def test_a_stale_window_does_not_bring_a_forgotten_user_back(table: PartitionTable) -> None:
    table.restore([record(b"a", 1), ChangelogRecord(b"a", None, 8)], 2)
    assert table.restore([record(b"a", 7)], 3) == {b"a": 8}
    assert dict(table.items()) == {}
    assert table.restore([record(b"a", 9)], 4) == {}
    assert dict(table.items()) == {b"a": stored(9)}


def test_a_late_restore_does_not_move_the_changelog_offset_back(table: PartitionTable) -> None:
    table.write([(b"a", stored(5))], 10)
    table.restore([record(b"a", 3)], 7)
    assert table.changelog_offset() == 10


def test_a_damaged_table_is_rebuilt_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = PartitionTable(path, CACHE_BYTES)
    table.write([(b"a", b"1")], 1)
    table.close()
    for manifest in path.glob("MANIFEST*"):
        manifest.write_bytes(b"junk")
    table, damage = open_or_rebuild(path, CACHE_BYTES)
    assert damage is not None
    assert "Corruption" in damage
    assert table.changelog_offset() is None
    table.close()


def test_a_table_in_use_is_an_error_not_damage(table: PartitionTable) -> None:
    with pytest.raises(Exception, match="lock"):
        open_or_rebuild(table.path, CACHE_BYTES)
    assert table.path.exists()


def mark(number: int, from_offset: int) -> ChangelogRecord:
    return ChangelogRecord(*era.encode(era.Mark(number, from_offset)), -1)


def test_at_a_rewinds_mark_the_windows_go_that_are_made_anew(table: PartitionTable) -> None:
    table.restore([record(b"past", 4), record(b"anew", 9), record(b"anew-too", 5)], 2)
    assert table.restore([mark(1, 5)], 3) == {}
    assert dict(table.items()) == {b"past": stored(4)}
    assert (table.era, table.changelog_offset()) == (1, 3)


def test_behind_a_mark_lower_offsets_win_and_what_is_from_before_is_stale(
    table: PartitionTable,
) -> None:
    """The same in one batch and record by record: a database may have read any part of it."""
    log = [
        record(b"u", 9),
        record(b"gone", 9),
        mark(1, 0),
        record(b"u", 2)._replace(era=1),
        record(b"u", 9),  # of a worker that was frozen while the others were rewound
        record(b"gone", 9),
    ]
    assert table.restore(log, 5) == {b"u": 2}
    assert dict(table.items()) == {b"u": stored(2)}
    table.restore([mark(2, 0)], 6)
    for offset, each in enumerate(log):
        table.restore([each], offset)
    assert dict(table.items()) == {}
    table.restore([record(b"u", 1)._replace(era=2)], 7)
    assert dict(table.items()) == {b"u": stored(1)}


def test_two_rewinds_missed_by_a_database_are_caught_up_in_order(table: PartitionTable) -> None:
    """What the first made anew from the beginning, the second may keep."""
    table.restore([record(b"u", 9), record(b"v", 90)], 1)
    table.restore([
        mark(1, 0),
        record(b"u", 3)._replace(era=1),
        record(b"v", 80)._replace(era=1),
        mark(2, 50),
        record(b"v", 60)._replace(era=2),
    ], 6)  # fmt: skip
    assert dict(table.items()) == {b"u": stored(3), b"v": stored(60)}


def test_the_era_survives_a_close_and_a_forgotten_users_offset_does_not(tmp_path: Path) -> None:
    table = PartitionTable(tmp_path / "t", CACHE_BYTES)
    table.remember_forgotten(b"u", 70)
    table.restore([mark(3, 0), record(b"u", 5)._replace(era=3)], 1)
    assert dict(table.items()) == {b"u": stored(5)}
    table.close()
    again = PartitionTable(tmp_path / "t", CACHE_BYTES)
    assert again.era == 3
    assert again.count() == 1
    again.close()
