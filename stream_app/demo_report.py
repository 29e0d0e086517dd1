"""The end of the demo: what five users are offered, the totals, and whether they add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream_app.demo_observer import Observer
from stream_app.movielens import Rating
from stream_app.user_view import ItemSpace

_USERS_SHOWN = 5
_TITLES_SHOWN = 5

OUTCOMES = ("folded", "duplicate", "late", "dead_letters", "forgotten")
"""Every event sent ends in exactly one of these."""


@dataclass(frozen=True)
class Check:
    """One sum that must come out."""

    what: str
    expected: int
    found: int

    @property
    def holds(self) -> bool:
        """Whether it comes out."""
        return self.expected == self.found


def checks(sent: int, users: int, counts: Mapping[str, int], observer: Observer) -> list[Check]:
    """Return the conservation checks over what was sent, what the worker counted, what was read."""
    outcomes = sum(counts.get(name, 0) for name in OUTCOMES)
    published = counts.get("updates_published", 0)
    current = users - len(observer.users_behind())
    return [
        Check("sent = folded + duplicates + late + dead letters + forgotten", sent, outcomes),
        Check("updates published = updates read back", published, observer.updates_read),
        Check("users = users whose last update is of their last event", users, current),
    ]


def show_users(
    console: Console, played: Sequence[Rating], observer: Observer, space: ItemSpace
) -> None:
    """Print the five most recent users: their last titles, the nearest they have not seen."""
    seen: dict[str, list[str]] = {}
    for rating in played:
        # Removed and put back: the dictionary ends up in the order of the last event.
        seen[rating.user_id] = [*seen.pop(rating.user_id, []), rating.item_id]
    long_enough = [user for user, titles in seen.items() if len(titles) >= _TITLES_SHOWN]
    for user in (long_enough or list(seen))[: -_USERS_SHOWN - 1 : -1]:
        vector = np.array(observer.update(user).get("vector", []), dtype=np.float32)
        fits = space.item_ids and vector.shape == space.vectors.shape[1:]
        unseen = space.nearest(vector, _TITLES_SHOWN, frozenset(seen[user])) if fits else []
        table = Table(f"{user}: last {_TITLES_SHOWN} titles", "nearest unseen titles", box=None)
        last = seen[user][: -_TITLES_SHOWN - 1 : -1]
        for row in range(_TITLES_SHOWN):
            left = escape(last[row]) if row < len(last) else ""
            right = f"{unseen[row][1]:.3f}  {escape(unseen[row][0])}" if row < len(unseen) else ""
            table.add_row(left, right)
        console.print(table)
        console.print()


def show_totals(
    console: Console, sent: int, took_s: float, counts: Mapping[str, int], observer: Observer
) -> None:
    """Print the totals."""
    rows: dict[str, int | str] = {
        "events sent": sent,
        "folded": counts.get("folded", 0),
        "duplicates": counts.get("duplicate", 0),
        "late": counts.get("late", 0),
        "forgotten": counts.get("forgotten", 0),
        "dead letters": counts.get("dead_letters", 0),
        "redelivered": counts.get("redelivered", 0),
        "updates published": counts.get("updates_published", 0),
        "updates read back": observer.updates_read,
        "events/s": round(sent / took_s) if took_s else 0,
        "event to update p50": milliseconds(observer.latency_ms(0.5)),
        "event to update p99": milliseconds(observer.latency_ms(0.99)),
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    console.print(table)


def show_checks(console: Console, found: Sequence[Check]) -> None:
    """Print each check with both of its numbers."""
    for check in found:
        sign = "[green]ok[/green]   " if check.holds else "[red]WRONG[/red]"
        console.print(f"{sign} {check.what}: {check.expected:,} / {check.found:,}", soft_wrap=True)


def milliseconds(value: float | None) -> str:
    """Return a latency for people."""
    return "-" if value is None else f"{value:.1f} ms"


def cache_hits(counts: Mapping[str, int], encoded_before: int) -> str:
    """Return the share of events whose text's vector was at hand when they came.

    ``encoded_before``: texts the worker had encoded before the first event, the catalogue's.
    """
    events = counts.get("records", 0)
    encoded = counts.get("texts_encoded", 0) - encoded_before
    return f"{max(0.0, 1 - encoded / events):.1%}" if events else "-"
