"""What can be wrong with a RocksDB database, told apart by what has to be done about it.

``rocksdict`` raises bare ``Exception`` for every cause; the message tells them apart.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import rocksdict

log = logging.getLogger(__name__)

T = TypeVar("T")

_MARK = "DAMAGED"
"""A file in a database's folder: what was found while it was open, for the next start to act on."""
_FULL = ("No space left on device", "Disk quota exceeded")
_UNREADABLE = ("Corruption", "Input/output error", "checksum mismatch")


class DatabaseDamaged(Exception):
    """What the files hold is not what was written; the next start makes the database anew."""


class DatabaseFull(Exception):
    """There is no room to write; what was written before is whole."""


@contextmanager
def told_apart(path: Path) -> Iterator[None]:
    """Run one call on the database at ``path`` and name what goes wrong.

    Raises:
        DatabaseDamaged: and the folder is marked: :func:`open_or_rebuild` will begin anew.
        DatabaseFull: the disk is full.
    """
    try:
        yield
    except Exception as error:
        said = str(error)
        if any(words in said for words in _FULL):
            raise DatabaseFull(f"no space left to write {path}: {said}") from error
        if is_damage(said):
            _mark(path, said)
            raise DatabaseDamaged(f"{path} is damaged: {said}") from error
        raise


def closed(database: rocksdict.Rdict, path: Path) -> None:
    """Close a database; what cannot be flushed now is in its write-ahead log, and read from there.

    So a full or damaged disk is no reason not to end, and is told of in the log only.
    """
    try:
        with told_apart(path):
            database.close()
    except Exception as error:  # noqa: BLE001 - rocksdict raises bare Exception
        log.warning("%s was closed without being flushed: %s", path, error)


def is_damage(said: str) -> bool:
    """Tell whether RocksDB's message says that files are missing or not as they were written."""
    missing = "No such file" in said and os.sep in said
    return missing or any(words in said for words in _UNREADABLE)


def open_or_rebuild(path: Path, open_: Callable[[], T]) -> tuple[T, str | None]:
    """Open a database whose content lies elsewhere, too; a damaged one is deleted and begun anew.

    Returns it and, where it was damaged, what RocksDB said.

    Raises:
        DatabaseFull: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    damage = _marked(path)
    if damage is None:
        try:
            with told_apart(path):
                return open_(), None
        except DatabaseDamaged as error:
            damage = str(error)
    shutil.rmtree(path, ignore_errors=True)
    with told_apart(path):
        return open_(), damage


def _mark(path: Path, said: str) -> None:
    try:
        (path / _MARK).write_text(said, encoding="utf-8")
    except OSError:  # the folder has gone, or cannot be written: the next start finds the damage
        return


def _marked(path: Path) -> str | None:
    try:
        return (path / _MARK).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
