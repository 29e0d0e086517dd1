"""Faust's view of the windows: which partitions' databases to restore, and when to let them go."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import faust
from faust.stores.base import Store
from faust.types import TP

from state import codec, era
from state.table import ChangelogRecord, PartitionTable, open_or_rebuild
from stream_app.delivery.app import BatchApp
from stream_app.topics import TOMBSTONES_MS

APPLIED_OFFSET_HEADER = "applied_offset"

DATABASE_MAX_AGE_MS = TOMBSTONES_MS // 2
"""A database that was last in step with the changelog longer ago is begun anew. The other half is
for clocks that differ and for a restore that takes long: it has to come to the tombstones while
they are there."""

_SWEEP_EVERY_S = 3600.0
"""So much longer than ``DATABASE_MAX_AGE_MS`` a left partition's windows may be on our disk."""


class WindowStore(Store[bytes, bytes]):
    """Faust's view of the windows' databases, one per partition: recovery and rebalancing.

    Reading and writing windows goes to :class:`state.table.PartitionTable` directly.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tables: dict[int, PartitionTable] = {}
        self._refused: defaultdict[int, dict[bytes, int]] = defaultdict(dict)

    def partition(self, partition: int) -> PartitionTable:
        """Return the partition's database, opening (or, if damaged, rebuilding) it."""
        table = self._tables.get(partition)
        if table is None:
            path = Path(self.app.conf.tabledir) / f"{self.table_name}-{partition}.rocksdb"
            cache_bytes = (self.options or {})["block_cache_bytes"]
            table, damage = open_or_rebuild(path, cache_bytes)
            if damage:
                self.log.error("%s was damaged and is rebuilt from the changelog: %s", path, damage)
            now_ms = _now_ms()
            if not table.is_new() and is_too_old(table.as_of_ms(), now_ms):
                table = self._begun_anew(table, now_ms)
            if table.is_new():
                table.begin(now_ms)
            self._tables[partition] = table
        return table

    def _begun_anew(self, table: PartitionTable, now_ms: int) -> PartitionTable:
        as_of_ms = table.as_of_ms()
        known = "of unknown age" if as_of_ms is None else f"{_days(now_ms - as_of_ms)} days old"
        self.log.warning(
            "%s is %s and is restored from the beginning of the changelog: beyond %s days it may "
            "hold users deleted meanwhile",
            table.path,
            known,
            _days(DATABASE_MAX_AGE_MS),
        )
        table.close()
        PartitionTable.destroy(table.path)
        anew, _ = open_or_rebuild(table.path, (self.options or {})["block_cache_bytes"])
        return anew

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset that the database includes, -1 if it has none.

        Not ``None``: Faust would go on from where it had once been in this partition.
        """
        offset = self.partition(tp.partition).changelog_offset()
        return -1 if offset is None else offset

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Remember the changelog offset that the database includes."""
        self.partition(tp.partition).write((), offset)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Restore windows from fetches of the changelog, never an older one over a newer one."""
        by_partition: dict[int, list[Any]] = defaultdict(list)
        for event in batch:
            by_partition[event.message.partition] += event.value
        for partition, fetched in by_partition.items():
            records = [
                ChangelogRecord(r.key, r.value, _applied_offset(r), era.of_headers(r.headers))
                for r in fetched
            ]
            last = fetched[-1]
            last_ms = min(last.timestamp, _now_ms())  # a producer's clock may be ahead
            refused = self.partition(partition).restore(records, last.offset, last_ms)
            self._refused[partition].update(refused)
            if refused:
                self.log.warning(
                    "partition %s: changelog records of a former owner refused for %s users",
                    partition,
                    len(refused),
                )

    def take_refused(self, partition: int) -> dict[bytes, int]:
        """Return, once, whose older records restores refused, and the offset of what is held."""
        return self._refused.pop(partition, {})

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Close the databases of changelog partitions that left us."""
        cast(BatchApp, self.app).on_assigned()
        ours = self.table.changelog_topic.topics
        for tp in revoked:
            if tp.topic in ours:
                self._close(tp.partition)

    @Store.timer(_SWEEP_EVERY_S, exec_first=True)
    async def _sweep(self) -> None:
        self.destroy_left()

    def destroy_left(self) -> None:
        """Destroy databases of partitions that left us too long ago for us to use them again.

        Until then they shorten a restore; from then on they only hold windows of which nobody
        tells us when they are forgotten. One that is ours in a moment would be begun anew anyway:
        a file is never older than the time that a database says of itself.
        """
        now_ms = _now_ms()
        open_here = {table.path for table in self._tables.values()}
        for path in Path(self.app.conf.tabledir).glob(f"{self.table_name}-*.rocksdb"):
            if path not in open_here and is_too_old(_written_ms(path), now_ms):
                PartitionTable.destroy(path)
                self.log.info("%s is deleted: its partition left this worker days ago", path)

    def _close(self, partition: int) -> None:
        table = self._tables.pop(partition, None)
        if table is not None:
            table.close()

    async def on_stop(self) -> None:
        """Close every database."""
        for partition in list(self._tables):
            self._close(partition)

    def reset_state(self) -> None:
        """Forget the local copy; the changelog still has it all."""
        for partition in list(self._tables):
            path = self._tables[partition].path
            self._close(partition)
            PartitionTable.destroy(path)

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """Not needed: the changelog is the backup."""
        raise NotImplementedError("the changelog topic is the backup of every partition")

    restore_backup = backup_partition  # type: ignore[assignment]


class WindowTable(faust.Table[bytes, bytes]):
    """The table of windows: Faust restores it, checkpoints write it."""

    def partition(self, partition: int) -> PartitionTable:
        """Return the database of a partition's windows."""
        return cast(WindowStore, self.data).partition(partition)

    def take_refused(self, partition: int) -> dict[bytes, int]:
        """Return, once, whose changelog records have to be written again, newer ones."""
        return cast(WindowStore, self.data).take_refused(partition)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Apply what recovery still has in its buffers, then go on as Faust does.

        A standby that takes over may have counted a changelog record as read that lies in a
        buffer; finding nothing left to recover, Faust does not flush it.
        """
        self.app.tables.recovery.flush_buffers()  # type: ignore[attr-defined]
        await super().on_recovery_completed(active_tps, standby_tps)

    def _new_store(self) -> WindowStore:
        return WindowStore(
            "windows://",
            self.app,
            self,
            table_name=self.name,
            loop=self.loop,
            options=self.options,
        )


def is_too_old(as_of_ms: int | None, now_ms: int) -> bool:
    """Tell whether a database may lack a tombstone that the changelog has no more.

    One without a time is: versions before stored none, and one more restore is the lesser evil
    beside somebody who asked to be forgotten. So is one from the future, where a clock was wrong.
    """
    return as_of_ms is None or abs(now_ms - as_of_ms) > DATABASE_MAX_AGE_MS


def _written_ms(path: Path) -> int:
    """Return when a database was last written; 0 for an empty folder.

    RocksDB's own log does not count: whoever reads the files begins it anew, as ``forget --check``
    does.
    """
    files = (file.stat() for file in path.iterdir() if not file.name.startswith("LOG"))
    return max((file.st_mtime_ns // 1_000_000 for file in files), default=0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _days(span_ms: int) -> str:
    return f"{span_ms / 86_400_000:.1f}"


def _applied_offset(record: Any) -> int:
    """Return the source offset of a changelog record: in the window, or in a tombstone's header."""
    if era.is_mark(record.key):
        return -1
    if record.value is not None:
        return codec.applied_offset(record.value)
    for name, value in record.headers:
        if name == APPLIED_OFFSET_HEADER:
            return int(value)
    return 2**62  # a tombstone of no known age, made by hand: it wins
