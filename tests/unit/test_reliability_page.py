"""docs/reliability.md is what its record makes it."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import record
from tests.chaos.recovery import PICTURE, recovery_part
from tests.chaos.report import page

DOCS = record.ROOT / "docs"


def test_the_page_is_made_of_the_record(tmp_path: Path) -> None:
    lines = list(record.read([DOCS / "reliability.jsonl"]))
    plans = [line for line in lines if isinstance(line, record.Record)]
    sessions = [line for line in lines if isinstance(line, record.Session)]
    recovery = recovery_part(DOCS / "recovery.json", tmp_path)
    made = page(plans, sessions, recovery)
    assert made == (DOCS / "reliability.md").read_text(), "run python -m tests.chaos report"
    assert (tmp_path / PICTURE).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sum(plan.passed for plan in plans) >= 200
