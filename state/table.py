"""The windows of one partition on disk: a RocksDB database, written at checkpoints only.

Beside the windows it keeps the offset in the changelog partition that its content corresponds to,
from where recovery reads on, and the time up to which it is known who was deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import rocksdict

from state import codec, database, era

_OWN_KEYS = b"\x00"
"""User ids are UTF-8 without NUL (see :func:`state.event.decode`), so no user collides."""
_FIRST_USER = b"\x01"
_OFFSET_KEY = _OWN_KEYS + b"changelog-offset"
_ERA_KEY = _OWN_KEYS + b"era"
_AS_OF_KEY = _OWN_KEYS + b"as-of-ms"

_WRITE_BUFFER_BYTES = 16 << 20
_MAX_OPEN_FILES = 256
_MAX_WAL_BYTES = 64 << 20
"""Beyond this RocksDB flushes; the log before a flush is deleted with it."""
_MAX_INFO_LOGS = 4
"""RocksDB's own log begins anew whenever a database is opened, with each rebalance that is; left
alone it keeps a thousand."""
_MAX_INFO_LOG_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 4 << 20
"""Of the list of files, which grows with every flush and compaction until it is written anew."""

_MEMORY_PROPERTIES = {
    "memtables": "rocksdb.cur-size-all-mem-tables",
    "block_cache": "rocksdb.block-cache-usage",
    "table_readers": "rocksdb.estimate-table-readers-mem",
}
_FILES_PROPERTY = "rocksdb.live-sst-files-size"
BYTES_KINDS = (*_MEMORY_PROPERTIES, "files")
"""What :meth:`PartitionTable.bytes_by_kind` tells of; the last on disk, the others in memory."""


_MAX_FORGOTTEN = 100_000
"""Deleted users whose source offset is kept in memory, so that a stale record does not bring one
back while a changelog is read. A stale record lies within a session timeout of its tombstone."""


class ChangelogRecord(NamedTuple):
    """One record of the changelog: a user's window, or ``None`` where the user was forgotten."""

    key: bytes
    value: bytes | None
    applied_offset: int
    """The source offset the window (or the forgetting) corresponds to."""
    era: int = 0
    """In which the record was written; see :mod:`state.era`."""


class PartitionTable:
    """User id -> window bytes of one partition.

    Only one process may have it open: RocksDB's own lock file sees to that.
    """

    def __init__(self, path: Path, block_cache_bytes: int) -> None:
        self.path = path
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(_MAX_OPEN_FILES)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_total_wal_size(_MAX_WAL_BYTES)
        options.set_keep_log_file_num(_MAX_INFO_LOGS)
        options.set_max_log_file_size(_MAX_INFO_LOG_BYTES)
        options.set_max_manifest_file_size(_MAX_MANIFEST_BYTES)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(rocksdict.Cache(block_cache_bytes))
        options.set_block_based_table_factory(blocks)
        # Named, or the default column family of a database that exists already gets the options it
        # was made with, and of those RocksDB does not store the cache.
        families = {"default": options}
        self._db = rocksdict.Rdict(str(path), options=options, column_families=families)
        self._forgotten: dict[bytes, int] = {}
        stored = self._db.get(_ERA_KEY)
        self.era = 0 if stored is None else int(stored)
        """How often the windows were rewound; written beside each record of the changelog."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the stored bytes of each key, ``None`` where there are none.

        Raises:
            DatabaseDamaged: a file is not as it was written.
        """
        with database.told_apart(self.path):
            return cast(list[bytes | None], self._db.get(cast(list[Any], keys)))

    def changelog_offset(self) -> int | None:
        """Return the last changelog offset that the content includes."""
        with database.told_apart(self.path):
            stored = self._db.get(_OFFSET_KEY)
        return None if stored is None else int(stored)

    def as_of_ms(self) -> int | None:
        """Return the wall time up to which tombstones of the changelog count here.

        Whoever has a window here and a tombstone behind :meth:`changelog_offset` was deleted after
        this time: the changelog keeps that tombstone for so long from then on, and no longer.
        ``None`` where nobody has said so: the table is new, or was written by a version before.
        """
        with database.told_apart(self.path):
            stored = self._db.get(_AS_OF_KEY)
        return None if stored is None else int(stored)

    def is_new(self) -> bool:
        """Tell whether nothing was ever written here."""
        with database.told_apart(self.path):
            cursor = self._db.iter()
            cursor.seek_to_first()
            cursor.status()
            return not cursor.valid()

    def begin(self, as_of_ms: int) -> None:
        """Say of a new table when it was begun.

        What a restore reads from now on is in the changelog now, and so is, or will be, the
        tombstone that ends it. So this time holds however long the restore takes.
        """
        with database.told_apart(self.path):
            self._db.put(_AS_OF_KEY, b"%d" % as_of_ms)

    def write(
        self,
        rows: Iterable[tuple[bytes, bytes | None]],
        changelog_offset: int | None,
        as_of_ms: int | None = None,
    ) -> None:
        """Write rows (``None`` deletes) and the changelog offset in one atomic batch.

        ``as_of_ms``: a time at which nothing lay behind that offset; see :meth:`as_of_ms`.

        Raises:
            DatabaseFull: the disk is full; nothing of this is written.
            DatabaseDamaged: RocksDB has met with a damaged file.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset is not None:
            batch.put(_OFFSET_KEY, str(changelog_offset).encode())
            if as_of_ms is not None:
                batch.put(_AS_OF_KEY, b"%d" % as_of_ms)
        with database.told_apart(self.path):
            self._db.write(batch)

    def restore(
        self, records: Iterable[ChangelogRecord], last_offset: int, last_ms: int = 0
    ) -> dict[bytes, int]:
        """Apply changelog records, but never an older window over a newer one.

        A worker that was thrown out of the group while frozen may have written behind its
        successor's records; the source offset tells such a record from a real one. At the mark of
        a rewind the windows go that are made anew; see :mod:`state.era`.

        ``last_ms``: when the last record was appended; what lies behind it is no older.

        Returns the users whose older records were refused, and the source offset of what is held
        instead: the changelog does not end with it and, once compacted, would have lost it.
        """
        refused: dict[bytes, int] = {}
        between: list[ChangelogRecord] = []
        for record in records:
            if not era.is_mark(record.key):
                between.append(record)
                continue
            assert record.value is not None, "nobody deletes a mark"
            refused |= self._restore(between)
            between = []
            gone = self._begin(era.decode(record.value))
            refused = {key: offset for key, offset in refused.items() if key not in gone}
        refused |= self._restore(between)
        offset = max(last_offset, self.changelog_offset() or 0)
        self.write((), offset, max(last_ms, self.as_of_ms() or 0))
        return refused

    def _begin(self, mark: era.Mark) -> set[bytes]:
        """Begin an era: delete the windows that are made anew, and return whose they were."""
        if mark.era <= self.era:
            return set()
        gone = {
            key for key, value in self.items() if codec.applied_offset(value) >= mark.from_offset
        }
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in gone:
            batch.delete(key)
        batch.put(_ERA_KEY, b"%d" % mark.era)
        with database.told_apart(self.path):
            self._db.write(batch)
        self.era = mark.era
        self._forgotten.clear()
        return gone

    def _restore(self, records: Iterable[ChangelogRecord]) -> dict[bytes, int]:
        """Apply records of one era; what is left of an earlier one is stale."""
        newest: dict[bytes, ChangelogRecord] = {}
        refused: dict[bytes, int] = {}
        stale: set[bytes] = set()
        for record in records:
            if record.era < self.era:
                stale.add(record.key)
                continue
            stale.discard(record.key)
            before = newest.get(record.key)
            if before is not None and before.applied_offset > record.applied_offset:
                refused[record.key] = before.applied_offset
            else:
                newest[record.key] = record
                refused.pop(record.key, None)
        keys = list(newest)
        rows: list[tuple[bytes, bytes | None]] = []
        for key, held in zip(keys, self.get_many(keys), strict=True):
            record = newest[key]
            newer = self._newer_than(key, held)
            if newer > record.applied_offset:
                refused[key] = newer
                continue
            rows.append((key, record.value))
            if record.value is None:
                self.remember_forgotten(key, record.applied_offset)
        self.write(rows, None)
        return refused | self._held_instead(list(stale))

    def _held_instead(self, stale: list[bytes]) -> dict[bytes, int]:
        """Return the source offsets of windows behind which a record of an earlier era lies."""
        windows = zip(stale, self.get_many(stale), strict=True)
        return {key: codec.applied_offset(held) for key, held in windows if held is not None}

    def _newer_than(self, key: bytes, held: bytes | None) -> int:
        if held is not None:
            return codec.applied_offset(held)
        return self._forgotten.get(key, -1)

    def forgotten_at(self, key: bytes) -> int | None:
        """Return the source offset at which the user was forgotten, if that is remembered."""
        return self._forgotten.get(key)

    def remember_forgotten(self, key: bytes, applied_offset: int) -> None:
        """Remember in memory where a user was forgotten: a stale record must not undo it."""
        self._forgotten[key] = applied_offset
        if len(self._forgotten) > _MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    def after(self, key: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``count`` users and windows behind ``key``, in key order.

        An iterator of its own each time: one kept open would hold on to all that was deleted
        since.

        Raises:
            DatabaseDamaged: a file is not as it was written.
        """
        rows: list[tuple[bytes, bytes]] = []
        with database.told_apart(self.path):
            cursor = self._db.iter()
            cursor.seek(key + b"\x00" if key else _FIRST_USER)
            while len(rows) < count and cursor.valid():
                rows.append(cast(tuple[bytes, bytes], (cursor.key(), cursor.value())))
                cursor.next()
            cursor.status()
        return rows

    def memory_bytes(self) -> int:
        """Return what RocksDB holds in memory: memtables, block cache, indexes and filters."""
        return sum(map(self._property, _MEMORY_PROPERTIES.values()))

    def bytes_by_kind(self) -> dict[str, int]:
        """Return the bytes of each of ``BYTES_KINDS``."""
        names = (*_MEMORY_PROPERTIES.values(), _FILES_PROPERTY)
        return dict(zip(BYTES_KINDS, map(self._property, names), strict=True))

    def _property(self, name: str) -> int:
        return int(self._db.property_int_value(name) or 0)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every user id and window, in key order."""
        for key, value in cast(Iterator[tuple[bytes, bytes]], self._db.items()):
            if not key.startswith(_OWN_KEYS):
                yield key, value

    def count(self) -> int:
        """Return how many users have a window here; reads every key."""
        return sum(1 for _ in self.items())

    def close(self) -> None:
        """Flush to disk and release the files."""
        database.closed(self._db, self.path)

    @staticmethod
    def destroy(path: Path) -> None:
        """Delete a closed table's files."""
        shutil.rmtree(path, ignore_errors=True)


def open_or_rebuild(path: Path, block_cache_bytes: int) -> tuple[PartitionTable, str | None]:
    """Open the table; a damaged one is deleted and opened empty, for the changelog has it all.

    Returns the table and, where it was damaged, what RocksDB said.
    """
    return database.open_or_rebuild(path, lambda: PartitionTable(path, block_cache_bytes))


def stored_by(path: Path, keys: list[bytes]) -> list[bytes | None]:
    """Return stored windows from the files of a table that another process may have open.

    Raises:
        Exception: RocksDB's own, where the files change too fast to be read beside their owner.
    """
    options = rocksdict.Options(raw_mode=True)
    access = rocksdict.AccessType.read_only()
    files = rocksdict.Rdict(str(path), options=options, access_type=access)
    try:
        return cast(list[bytes | None], files.get(cast(list[Any], keys)))
    finally:
        files.close()
