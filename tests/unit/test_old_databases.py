"""Databases that the changelog's tombstones may have outlived: begun anew where they are opened."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from state import codec
from state.table import PartitionTable
from state.window import Window
from stream_app.delivery.window_table import (
    DATABASE_MAX_AGE_MS,
    WindowStore,
    is_too_old,
)
from stream_app.topics import TOMBSTONES_MS

CACHE_BYTES = 1 << 20
DAY_MS = 86_400_000
TP_3 = TP("changelog", 3)
WINDOW = codec.encode(Window(applied_offset=5))

StoreMaker = Callable[[], WindowStore]


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[StoreMaker]:
    """Make the store of one start of the worker after the other."""
    made: list[WindowStore] = []

    def make() -> WindowStore:
        for before in made:
            close(before)
        app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=tmp_path))
        options = {"block_cache_bytes": CACHE_BYTES}
        made.append(WindowStore("windows://", app, Any, table_name="windows", options=options))
        return made[-1]

    yield make
    for store in made:
        close(store)


def close(store: WindowStore) -> None:
    for number in list(store._tables):
        store._close(number)


def fetched(offset: int, timestamp: int, value: bytes | None = WINDOW) -> Any:
    """A fetch of the changelog, of one record of the user u."""
    record = SimpleNamespace(key=b"u", value=value, headers=[], offset=offset, timestamp=timestamp)
    return SimpleNamespace(message=SimpleNamespace(partition=3), value=[record])


def test_no_database_is_used_that_tombstones_may_have_outlived() -> None:
    now = now_ms()
    assert 2 * DATABASE_MAX_AGE_MS <= TOMBSTONES_MS
    assert not is_too_old(now - DATABASE_MAX_AGE_MS, now)
    assert is_too_old(now - DATABASE_MAX_AGE_MS - 1, now)
    assert is_too_old(now + DATABASE_MAX_AGE_MS + 1, now), "a clock was wrong"
    assert is_too_old(None, now), "of a version that stored no time"


def test_a_young_database_goes_on_where_it_left_off(make_store: StoreMaker) -> None:
    as_of_ms = now_ms() - DATABASE_MAX_AGE_MS + DAY_MS
    make_store().partition(3).write([(b"u", WINDOW)], 41, as_of_ms)
    store = make_store()
    assert store.persisted_offset(TP_3) == 41
    assert dict(store.partition(3).items()) == {b"u": WINDOW}
    assert store.partition(3).as_of_ms() == as_of_ms


def test_an_old_database_is_restored_from_the_beginning(
    make_store: StoreMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_store().partition(3).write([(b"u", WINDOW)], 41, now_ms() - 5 * DAY_MS)
    store = make_store()
    assert store.persisted_offset(TP_3) == -1, "not None: Faust may remember an offset of its own"
    assert dict(store.partition(3).items()) == {}
    (line,) = caplog.messages
    assert "windows-3.rocksdb is 5.0 days old and is restored from the beginning" in line
    assert make_store().persisted_offset(TP_3) == -1
    assert len(caplog.messages) == 1, "once"


def test_a_database_that_says_no_time_is_restored_from_the_beginning(
    make_store: StoreMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = PartitionTable(tmp_path / "windows-3.rocksdb", CACHE_BYTES)
    before.write([(b"u", WINDOW)], 41)
    before.close()
    assert make_store().persisted_offset(TP_3) == -1
    assert "of unknown age" in caplog.messages[0]


def test_while_it_is_restored_a_database_is_as_old_as_its_beginning(
    make_store: StoreMaker,
) -> None:
    """Records of last year say nothing: what ends them was there when the restore began."""
    store = make_store()
    begun_ms = now_ms()
    store.apply_changelog_batch([fetched(7, begun_ms - 365 * DAY_MS)], None, None)
    assert abs((store.partition(3).as_of_ms() or 0) - begun_ms) < 60_000
    assert make_store().persisted_offset(TP_3) == 7


def test_a_standby_is_as_young_as_the_last_record_it_read(make_store: StoreMaker) -> None:
    store = make_store()
    begun_ms = now_ms()
    store.partition(3).begin(begun_ms - 3 * DAY_MS)
    store.apply_changelog_batch([fetched(7, begun_ms - 2 * DAY_MS)], None, None)
    assert store.partition(3).as_of_ms() == begun_ms - 2 * DAY_MS
    store.apply_changelog_batch([fetched(8, begun_ms + 300 * DAY_MS)], None, None)
    assert begun_ms <= (store.partition(3).as_of_ms() or 0) <= now_ms(), "no clock but ours"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def age(folder: Path, days: float) -> None:
    """Put the times of a closed database's files back, but for what a reader has written."""
    then_s = time.time() - days * 86_400
    for file in folder.iterdir():
        os.utime(file, (then_s, then_s))
    (folder / "LOG").touch()


def test_databases_of_partitions_that_left_long_ago_are_deleted_and_no_others(
    make_store: StoreMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = make_store()
    for number in range(3):
        before.partition(number).write([(b"u", WINDOW)], 41, now_ms())
    close(before)
    left, lately, ours = (tmp_path / f"windows-{number}.rocksdb" for number in range(3))
    (tmp_path / "windows-7.rocksdb").mkdir()  # what a deletion that was cut off has left
    (tmp_path / "others-0.rocksdb").mkdir()
    store = make_store()
    store.partition(2)
    age(left, 4)
    age(lately, 3)
    age(ours, 4)
    store.destroy_left()
    assert names(tmp_path) == {lately.name, ours.name, "others-0.rocksdb"}
    assert [line for line in caplog.messages if str(left) in line]
    assert dict(store.partition(2).items()) == {b"u": WINDOW}


async def test_they_are_looked_for_at_the_start(make_store: StoreMaker, tmp_path: Path) -> None:
    before = make_store()
    before.partition(0)
    close(before)
    age(tmp_path / "windows-0.rocksdb", 4)
    store = make_store()
    await store.start()
    async with asyncio.timeout(10):
        while names(tmp_path):  # noqa: ASYNC110 - nobody tells that a folder is gone
            await asyncio.sleep(0.01)
    await store.stop()
