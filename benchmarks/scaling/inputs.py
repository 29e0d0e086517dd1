"""The measured figures that the plan stands on, read from where their measurement wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scaling.course import Burst, settled

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "scaling.json"
RECOVERY = ROOT / "docs" / "recovery.json"
USER_COST = ROOT / "docs" / "user-cost.json"

_PER_USER = {
    "window_bytes": "window",
    "rocksdb_bytes": "rocksdb_disk",
    "changelog_bytes": "changelog",
    "update_bytes": "updates avro float16",
    "hot_window_bytes": "window_in_memory",
}
"""Figure -> its name in what ``benchmarks.user_cost`` wrote, bytes per user."""


@dataclass(frozen=True)
class Inputs:
    """Everything measured. Times are of the cores it was measured on."""

    burst_events_per_s: float
    """Of one worker, with sender and broker on the same cores, until its last checkpoint."""
    loop_s_per_event: float
    """CPU of a worker's own process, alone on its stream."""
    vector_s: float
    """CPU of the encoder process, per vector of a user whose texts are known."""
    tokens_per_s: float
    """Of one CPU thread."""
    worker_memory_mib: float
    join_s: float
    """How long the whole group stands still when a worker joins."""
    leave_s: float
    restored_users_per_s: float
    """From the changelog, by one worker."""
    standby_takeover_s: float
    window_bytes: float
    rocksdb_bytes: float
    changelog_bytes: float
    update_bytes: float
    hot_window_bytes: float


def load() -> Inputs:
    """Read all of it."""
    return of(
        json.loads(FIGURES.read_text(encoding="utf-8")),
        json.loads(RECOVERY.read_text(encoding="utf-8")),
        json.loads(USER_COST.read_text(encoding="utf-8")),
    )


def of(scaling: dict[str, Any], recovery: dict[str, Any], user_cost: dict[str, Any]) -> Inputs:
    """Derive the figures."""
    bursts = [Burst(**each) for each in scaling["bursts"]]
    alone = settled(bursts, 1)
    return Inputs(
        burst_events_per_s=alone.events_per_s,
        loop_s_per_event=(alone.worker_cpu_s - alone.encoder_cpu_s) / alone.events,
        vector_s=alone.encoder_cpu_s / alone.updates,
        tokens_per_s=scaling["texts"]["tokens_per_s"],
        worker_memory_mib=max(scaling["memory_mib"]),
        join_s=_longest_s(scaling, "join"),
        leave_s=_longest_s(scaling, "leave"),
        restored_users_per_s=restored_users_per_s(recovery["rows"]),
        standby_takeover_s=recovery["rows"][-1]["takeover_standby"],
        **{figure: user_cost[name] for figure, name in _PER_USER.items()},
    )


def _longest_s(scaling: dict[str, Any], act: str) -> float:
    """Return the longest standstill of the median partition, moved or not."""
    return max(each["median_s"] for each in scaling["standstills"] if each["act"] == act)


def restored_users_per_s(rows: list[dict[str, float]]) -> float:
    """Return the slope between the smallest and the largest restore: the start is in both."""
    least, most = rows[0], rows[-1]
    return (most["users"] - least["users"]) / (most["restart_wiped"] - least["restart_wiped"])
