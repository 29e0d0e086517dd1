"""The committed reports are what their figures make with the code as it is today."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from encoders.evaluation.results import Report
from stream_app.evaluation_run import files
from tests.harness.documents import ROOT

PAGES = sorted((ROOT / "docs").glob("evaluation*.md"))


def test_there_are_reports() -> None:
    assert len(PAGES) > 1


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_report_is_what_its_figures_make(page: Path) -> None:
    report = msgspec.json.decode(page.with_suffix(".json").read_bytes(), type=Report)
    made = files(report, page)
    assert made[page].decode() == page.read_text(encoding="utf-8")
    assert [path.name for path in made if not path.is_file()] == []
