"""Is the worker alive, and does it do its work? Reasons in words, from values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Condition(NamedTuple):
    """What health and readiness are judged by."""

    state: str
    encoder_silent_s: float
    """For how long the encoder has owed an answer; 0: it owes none."""
    recovering: bool
    recovery_remaining: Mapping[int, int]
    lease_lost_s: float | None
    """Age of the last confirmed heartbeat, once it is too old to write; ``None``: it is not."""
    still_s: Mapping[int, float]
    """Partition -> for how long it has had something to commit and has not."""
    lag_records: Mapping[int, int]


class Limits(NamedTuple):
    """From when on something is wrong."""

    encoder_silent_s: float
    commit_s: float


def unhealthy(condition: Condition, limits: Limits) -> list[str]:
    """Return why the worker should be started anew; empty: it is alive.

    That somebody answers at all says that the event loop turns.
    """
    reasons = []
    if condition.state in {"failed", "stopped"}:
        reasons.append(f"the worker has {condition.state}")
    if condition.encoder_silent_s > limits.encoder_silent_s:
        reasons.append(
            f"the encoder has not answered for {condition.encoder_silent_s:.1f} s "
            f"(health_encoder_s is {limits.encoder_silent_s:g})"
        )
    return reasons


def unready(condition: Condition, limits: Limits) -> list[str]:
    """Return why the worker does not do its work at present; empty: it does."""
    reasons = unhealthy(condition, limits)
    if condition.state not in {"running", "failed", "stopped"}:
        reasons.append(f"the worker is {condition.state}")
    if condition.recovering:
        left = sum(condition.recovery_remaining.values())
        reasons.append(f"windows are being restored: {left} changelog records to read")
    if condition.lease_lost_s is not None:
        reasons.append(
            f"no heartbeat confirmed for {condition.lease_lost_s:.1f} s: nothing is written"
        )
    reasons += [
        f"partition {number} has committed nothing for {still_s:.0f} s (ready_commit_s is "
        f"{limits.commit_s:g}) and lags by {condition.lag_records.get(number, 0)} records"
        for number, still_s in sorted(condition.still_s.items())
        if still_s > limits.commit_s
    ]
    return reasons
