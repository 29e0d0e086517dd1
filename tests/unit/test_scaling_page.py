"""docs/scaling.md, and what docs/performance.md says a user costs, are what the figures make."""

from __future__ import annotations

import json

import pytest

from benchmarks.scaling.inputs import USER_COST
from benchmarks.scaling.page import PAGE, written
from tests.harness.documents import ROOT

ROWS = {
    "window, as stored": "window",
    "RocksDB on disk (lz4)": "rocksdb_disk",
    "changelog, compacted": "changelog",
    "updates, JSON": "updates json float32",
    "updates, JSON, float16": "updates json float16",
    "updates, Avro": "updates avro float32",
    "updates, Avro, float16": "updates avro float16",
    "window in memory": "window_in_memory",
}


def test_the_tables_are_made_of_the_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run python -m benchmarks.scaling --page"


@pytest.mark.parametrize("label", ROWS)
def test_what_a_user_costs_is_what_was_measured(label: str) -> None:
    measured = json.loads(USER_COST.read_text(encoding="utf-8"))[ROWS[label]]
    assert f"| {label} | {measured:,.0f} |" in (ROOT / "docs" / "performance.md").read_text(
        encoding="utf-8"
    )
