"""Recovery times: their part of docs/reliability.md, and its figure."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

PICTURE = Path("assets") / "recovery.png"


def recovery_part(path: Path, pages: Path) -> str:
    """Return the part, from what ``benchmarks.recovery`` wrote; draw the figure below ``pages``."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    _draw(found["rows"], pages / PICTURE)
    picture = f"![Recovery time against state size, for each kind of recovery]({PICTURE})"
    return "\n".join(["## Recovery times", "", *found["words"], "", *found["table"], "", picture])


def _draw(rows: list[dict[str, float]], path: Path) -> None:
    users = [row["users"] for row in rows]
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in rows[0]:
        if name == "users":
            continue
        axis.plot(users, [row[name] for row in rows], marker="o", label=name.replace("_", ", "))
    axis.set(xscale="log", yscale="log", xlabel="users", ylabel="seconds to the first update")
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
