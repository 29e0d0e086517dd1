"""The drift report's page and figures, from vectors made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from encoders.evaluation.drift import drift
from stream_app.replaying.drift import write
from stream_app.replaying.drift_report import Part, Report, Side

USERS = 40


def report() -> Report:
    random = np.random.default_rng(0)
    one = random.normal(size=(USERS, 8)).astype(np.float32)
    other = (one + 0.3 * random.normal(size=one.shape)).astype(np.float32)
    other[7] = random.normal(size=8)  # who changed most
    both = drift(one, other, same_space=True)
    return Report(
        command="interest-stream replay compare next",
        live=Side("interest.updates", "old", 42, 1),
        shadow=Side("interest.updates-replay-next", "new", 41, 0),
        only_live=2,
        only_shadow=1,
        at_other_offsets=0,
        sampled_of=USERS,
        vectors=Part("users", both, ids=[f"user-{n}" for n in range(USERS)]),
        granularities=[
            Part("word", both, ids=[f"user-{n}" for n in range(USERS - 1)]),
            Part("granularities", None, "not published"),
        ],
        items=Part("items", both),
        notes=["Neighbours are the 10 of the highest cosine."],
    )


def test_page_figures_and_plots(tmp_path: Path) -> None:
    made = report()
    written = {path.name for path in write(made, tmp_path / "out")}
    assert written == {"report.html", "report.json", "neighbours.png", "aligned.png", "norms.png"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "granularities: not published." in page
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["parts"]["granularities"] == {"not_compared": "not published"}
    assert figures["parts"]["users"]["neighbours_kept_by_chance"] == 10 / (USERS - 1)
    assert made.vectors.drift is not None
    worst = min(figures["users"], key=lambda user: user["aligned_cosine"])
    assert worst["user"] == "user-7"
    assert worst["cosine"] < 0.9
    assert len(figures["users"]) == USERS
    assert worst["granularities"]["word"]["aligned_cosine"] == worst["aligned_cosine"]
    assert figures["users"][-1]["granularities"] == {}, "without a word vector of both"
    assert worst["norms"] == pytest.approx(
        [float(lengths[7]) for lengths in made.vectors.drift.lengths], abs=1e-5
    )
    # The table of those who changed most begins with who kept fewest neighbours.
    fewest = min(figures["users"], key=lambda u: (u["neighbours_kept"], u["aligned_cosine"]))
    first = page.split("Users who changed most")[1].split("<tr><td>")[1].split("<")[0]
    assert first == fewest["user"]
