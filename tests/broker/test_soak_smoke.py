"""The soak in a quarter of a minute: it runs, measures everything, and its sums are right.

What grows it cannot say in that time; its verdict is tested in tests/unit/test_soak_trend.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.sampling import BOUNDS
from tests.harness.documents import ROOT

pytestmark = pytest.mark.broker


def test_a_short_soak_measures_everything_and_nobody_is_left_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.soak", "--smoke", "--minutes", "0.25"]
    done = subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((out / "soak.json").read_text())
    assert found["expired"] > 100
    assert found["strays"] == 0, "an update without a window, or a window without an update"
    assert found["users_left"] > 100
    assert found["second_worker"], "a second worker came and went"
    assert {trend["name"] for trend in found["trends"]} == {bound.name for bound in BOUNDS}
    assert not any(trend["judged"] for trend in found["trends"]), "too short for a verdict"
    for name, series in found["series"].items():
        assert len(series["values"]) >= 1, name
        assert len(series["values"]) == len(series["times_s"])
    assert min(found["series"]["worker memory (PSS)"]["values"]) > 20
    assert (out / "soak.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
