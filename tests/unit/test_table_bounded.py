"""What left the table leaves the disk, too, and RocksDB's own files stay few."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from state.table import PartitionTable

CACHE = 1 << 20
VALUE_BYTES = 1_000


def disk_bytes(path: Path) -> int:
    total = 0
    for file in path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # deleted by RocksDB meanwhile
            total += file.stat().st_blocks * 512
    return total


def test_users_that_come_and_go_do_not_make_the_table_grow(tmp_path: Path) -> None:
    """60 MB of windows come and are deleted again; never are more than 4 MB of them there."""
    table = PartitionTable(tmp_path / "t", CACHE)
    alive: list[list[bytes]] = []
    peak_bytes = 0
    for generation in range(60):
        keys = [b"u%d-%d" % (generation, number) for number in range(1_000)]
        rows: list[tuple[bytes, bytes | None]] = [(key, os.urandom(VALUE_BYTES)) for key in keys]
        alive.append(keys)
        if len(alive) > 4:
            rows += [(key, None) for key in alive.pop(0)]
        table.write(rows, generation)
        if generation >= 20:
            peak_bytes = max(peak_bytes, disk_bytes(table.path))
    left = [key for key, _ in table.items()]
    table.close()
    assert left == sorted(key for keys in alive for key in keys)
    # A memtable of 16 MiB with its log, four files of level 0 waiting for their compaction.
    assert peak_bytes < 100 << 20
    assert disk_bytes(tmp_path / "t") < 30 << 20, "sixty megabytes were written"


def test_opening_again_and_again_leaves_few_files(tmp_path: Path) -> None:
    """A database is opened at each rebalance, and RocksDB begins a new log each time."""
    for _ in range(12):
        table = PartitionTable(tmp_path / "t", CACHE)
        table.write([(b"u", b"w")], 1)
        table.close()
    names = [file.name for file in (tmp_path / "t").iterdir()]
    assert len([name for name in names if name.startswith("LOG")]) <= 5
    assert len(names) < 30, names


def test_what_rocksdb_holds_in_memory_is_known(tmp_path: Path) -> None:
    table = PartitionTable(tmp_path / "t", CACHE)
    before = table.memory_bytes()
    table.write([(b"u%d" % number, os.urandom(VALUE_BYTES)) for number in range(1_000)], 1)
    assert before + 1_000 * VALUE_BYTES <= table.memory_bytes() < before + 4 * 1_000 * VALUE_BYTES
    table.close()


def test_a_slice_begins_behind_its_cursor_and_hides_the_tables_own_rows(tmp_path: Path) -> None:
    table = PartitionTable(tmp_path / "t", CACHE)
    table.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], 7)
    assert table.after(b"", 2) == [(b"a", b"1"), (b"b", b"2")]
    assert table.after(b"b", 2) == [(b"c", b"3")]
    assert table.after(b"c", 2) == []
    table.close()
