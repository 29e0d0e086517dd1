"""What others' records in a changelog are worth to the owner of a partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from state import codec, era
from state.table import ChangelogRecord, PartitionTable
from state.window import Window
from stream_app.changelog import _applied
from stream_app.errors import RestartWorker
from stream_app.partition import Partition


@pytest.fixture
def partition(tmp_path: Path) -> Iterator[Partition]:
    table = PartitionTable(tmp_path / "windows", 1 << 20)
    table.restore([ChangelogRecord(*era.encode(era.Mark(2, 0)), -1)], 7)
    yield Partition(3, table)
    table.close()


def record(offset: int, headers: list[tuple[str, bytes]]) -> Any:
    value = codec.encode(Window(applied_offset=offset))
    return SimpleNamespace(key=b"u", value=value, headers=headers)


def test_what_was_written_before_a_rewind_is_older_than_anything(partition: Partition) -> None:
    assert _applied(partition, record(900, [])) == -1
    assert _applied(partition, record(900, era.headers(1))) == -1
    assert _applied(partition, record(4, era.headers(2))) == 4
    gone = SimpleNamespace(
        key=b"u", value=None, headers=[("applied_offset", b"6"), *era.headers(2)]
    )
    assert _applied(partition, gone) == 6


def test_a_rewind_under_a_running_worker_ends_it(partition: Partition) -> None:
    key, value = era.encode(era.Mark(3, 0))
    with pytest.raises(RestartWorker, match="partition 3 was rewound while this worker had it"):
        _applied(partition, SimpleNamespace(key=key, value=value, headers=[]))


def test_an_era_is_named_in_a_header_only_where_something_was_rewound() -> None:
    assert era.headers(0) == []
    assert era.of_headers([]) == 0
    assert era.of_headers([("applied_offset", b"5"), *era.headers(12)]) == 12
    assert era.is_mark(era.encode(era.Mark(1, 5))[0])
    assert not era.is_mark(b"epoch-1")
    assert not era.is_mark(None)
    assert era.decode(era.encode(era.Mark(4, 77))[1]) == era.Mark(4, 77)
