"""Disks that are full or damaged: found, named, marked, and said in one line."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from state import database
from state.database import DatabaseDamaged, DatabaseFull
from state.table import PartitionTable, open_or_rebuild
from stream_app.datadir import Datadir
from stream_app.errors import FixSettings, ReportBug, RestartWorker, WaitForBroker
from stream_app.failures import explained, is_expected
from stream_app.settings import Settings
from stream_app.status import StatusFile
from tests.harness.faults.disk_faults import garble

CACHE_BYTES = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a table file."""
    path = tmp_path / "windows-0.rocksdb"
    table = PartitionTable(path, CACHE_BYTES)
    table.write([(b"user-%d" % n, b"%d" % n * 700) for n in range(60)], 5)
    table.close()
    return path


def test_damage_found_at_work_is_named_and_mended_by_the_next_start(path: Path) -> None:
    table = PartitionTable(path, CACHE_BYTES)
    for file in path.glob("*.sst"):
        garble(file, random.Random(1))
    with pytest.raises(DatabaseDamaged, match=r"windows-0\.rocksdb is damaged: Corruption"):
        table.get_many([b"user-%d" % n for n in range(60)])
    table.close()
    table, damage = open_or_rebuild(path, CACHE_BYTES)
    assert damage is not None
    assert "Corruption" in damage
    assert table.get_many([b"user-1"]) == [None]
    assert table.changelog_offset() is None
    table.close()
    table, damage = open_or_rebuild(path, CACHE_BYTES)
    assert damage is None, "the mark goes with what was damaged"
    table.close()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("IO error: No space left on device: While appending to file", DatabaseFull),
        ("IO error: While pread offset 0 len 4096: /d/1.sst: Input/output error", DatabaseDamaged),
        ("Corruption: block checksum mismatch", DatabaseDamaged),
        ("IO error: No such file or directory: While open a file: /d/7.sst", DatabaseDamaged),
        ("IO error: While lock file: /d/LOCK: Resource temporarily unavailable", Exception),
    ],
)
def test_what_rocksdb_says_is_told_apart(path: Path, said: str, named: type[Exception]) -> None:
    with pytest.raises(named) as raised, database.told_apart(path):
        raise Exception(said)
    assert type(raised.value) is named
    assert said in str(raised.value)


def os_error(number: int) -> OSError:
    return OSError(number, "what the system says", "/d/file")


@pytest.mark.parametrize(
    ("failure", "told", "words"),
    [
        (DatabaseFull("no space left to write /d"), RestartWorker, "free some space"),
        (DatabaseDamaged("/d is damaged"), RestartWorker, "makes this database anew"),
        (os_error(errno.ENOSPC), RestartWorker, "free some space"),
        (os_error(errno.EROFS), RestartWorker, "on another disk"),
        (WaitForBroker("no broker"), WaitForBroker, "no broker"),
        (FixSettings("wrong"), FixSettings, "wrong"),
        (KeyError("x"), ReportBug, "KeyError"),
    ],
)
def test_a_failure_is_one_line_that_says_what_to_do(
    failure: BaseException, told: type[Exception], words: str
) -> None:
    settings = Settings()
    error = explained(failure, settings)
    assert type(error) is told
    assert words in str(error)
    assert "\n" not in str(error)
    assert is_expected(failure, settings) == (told is not ReportBug)


def test_a_status_that_cannot_be_written_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = StatusFile(tmp_path / "away" / "status.json", lambda: {"state": "running"})
    status.try_to_write()
    status.try_to_write()
    assert len(caplog.records) == 1
    status.path.parent.mkdir()
    status.try_to_write()
    assert status.path.exists()


def test_a_model_file_that_a_power_failure_left_empty_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import encoders

    info = encoders.build(Settings(encoder="stub", stub_dimensions=8).encoder_config()).info
    (tmp_path / "model.json").write_bytes(b"")
    Datadir(tmp_path).check(info, "app", "updates")
    assert "cannot be read and is written anew" in caplog.text
    with pytest.raises(FixSettings, match="belongs to app_id 'app'"):
        Datadir(tmp_path).check(info, "another", "updates")
