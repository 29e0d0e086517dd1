"""Faust's view of the windows: which partitions' databases to restore, and when to let them go."""

from __future__ import annotations

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

APPLIED_OFFSET_HEADER = "applied_offset"


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
            self._tables[partition] = table
        return table

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset that the database includes."""
        return self.partition(tp.partition).changelog_offset()

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
            refused = self.partition(partition).restore(records, fetched[-1].offset)
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
