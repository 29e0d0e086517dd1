"""Which records of the log a replay folds, and which of them it only warms up with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.structs import ConsumerRecord


@dataclass(frozen=True)
class Bounds:
    """What of the log concerns a replay's workers."""

    ends: Mapping[int, int]
    """Partition -> offset behind the last record read."""
    publish_from: Mapping[int, int]
    """Partition -> offset of the first record whose user gets a vector; before it is warm-up."""
    users: frozenset[bytes] | None
    """The record keys folded; ``None``: all."""

    def of_users(self, records: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the records of the users wanted."""
        users = self.users
        if users is None:
            return list(records)
        return [record for record in records if record.key in users]

    def is_warm_up(self, partition: int, offset: int) -> bool:
        """Tell whether the record at ``offset`` only fills a window."""
        return offset < self.publish_from.get(partition, 0)

    def warm_up(
        self, partition: int, records: Sequence[ConsumerRecord]
    ) -> tuple[Sequence[ConsumerRecord], Sequence[ConsumerRecord]]:
        """Return the records that only fill windows, and those that are published, too."""
        if not records or not self.is_warm_up(partition, records[0].offset):
            return (), records
        warm = [record for record in records if self.is_warm_up(partition, record.offset)]
        return warm, records[len(warm) :]
