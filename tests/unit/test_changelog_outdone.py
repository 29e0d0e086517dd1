"""The changelog of windows: how far it counts as read once somebody else has written to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from state.table import PartitionTable
from state.window import Window
from stream_app.changelog import Changelog
from stream_app.owned_log import LastRecord, Others
from stream_app.partition import Partition
from stream_app.producer import OutRecord
from stream_app.status import Counts


class Log:
    """Stands in for producer and watched log: what others wrote is told with the next batch."""

    topic = "changelog"

    def __init__(self) -> None:
        self.others: Others = {}
        self.end = 0

    async def send(self, topic: str, partition: int, rows: Sequence[OutRecord]) -> int:
        self.end += len(rows)
        return self.end - 1

    def own_from(self, partition: Partition, offset: int) -> None:
        pass

    async def others_before(self, partition: Partition, count: int, last: int) -> Others:
        others, self.others = self.others, {}
        return others


@pytest.mark.parametrize(("theirs", "outdated"), [(688, True), (1776, False)])
async def test_what_is_to_be_outdone_is_not_passed_before_it_is(
    tmp_path: Path, theirs: int, outdated: bool
) -> None:
    """Revoked or killed between two checkpoints, a table that had passed it would never tell."""
    log: Any = Log()
    changelog = Changelog("changelog", log, Counts(), "nowhere:1")
    changelog._log = log
    table = PartitionTable(tmp_path / "t", 1 << 20)
    partition = Partition(3, table)
    partition.hot[b"u"] = window = Window(applied_offset=1776)
    log.others = {b"u": LastRecord(theirs, False)}
    rows = [OutRecord(b"other", b"")]
    assert await changelog.append(partition, rows) == (None if outdated else 0)
    assert partition.dirty == ({b"u": window} if outdated else {})
    assert await changelog.append(partition, rows) == 1
    table.close()
