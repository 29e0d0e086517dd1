"""docs/scaling.md: its tables, written from the figures."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.scaling.capacity import SIZES, Assumptions
from benchmarks.scaling.course import Burst, settled
from benchmarks.scaling.inputs import FIGURES, ROOT, load
from benchmarks.scaling.sheet import limits_table, table

PAGE = ROOT / "docs" / "scaling.md"
_END = "<!-- end -->"


def measured_table(found: dict[str, Any]) -> str:
    """Return one row per burst, in their order."""
    bursts = [Burst(**each) for each in found["bursts"]]
    alone = settled(bursts, 1)
    lines = [
        "| workers | events/s | to the last one alone | lag after the burst | until it is gone | "
        "CPU s per million events | without encoders | broker's CPU s |",
        "|---" * 8 + "|",
    ]
    for burst in bursts:
        million = 1e6 / burst.events
        loop_s = burst.worker_cpu_s - burst.encoder_cpu_s
        lines.append(
            f"| {burst.workers} | {burst.events_per_s:,.0f} | "
            f"{burst.events_per_s / alone.events_per_s:.2f} | {burst.lag_peak:,} | "
            f"{burst.lag_s:.1f} s | {burst.worker_cpu_s * million:,.0f} | "
            f"{loop_s * million:,.0f} | {burst.broker_cpu_s * million:,.0f} |"
        )
    return "\n".join(lines)


def standstill_table(found: dict[str, Any]) -> str:
    """Return one row per rebalance."""
    lines = ["| what | workers | longest | median partition | without |", "|---" * 5 + "|"]
    words = {
        "restart": "the only worker stops and starts on its disk",
        "leave": "one leaves",
        "join": "it comes back",
    }
    lines += [
        f"| {words[each['act']]} | {each['workers']} | {each['longest_s']:.1f} s | "
        f"{each['median_s']:.1f} s | {each['usual_s']:.2f} s |"
        for each in found["standstills"]
    ]
    return "\n".join(lines)


def conditions(found: dict[str, Any]) -> str:
    """Return on what it was measured, and what else it gave."""
    plan, texts = found["plan"], found["texts"]
    alone = settled([Burst(**each) for each in found["bursts"]], 1)
    memory = f"{min(found['memory_mib']):,.0f} to {max(found['memory_mib']):,.0f}"
    return (
        f"{found['machine']}; {found['versions']}; commit {found['commit']}. Bursts of "
        f"{alone.events:,} events of {plan['users']:,} users, "
        f"windows of {plan['window_events']} events, "
        f"{plan['hot_windows']:,} of them in memory; at one worker "
        f"{alone.updates / alone.events:.2f} updates and "
        f"{alone.windows_stored / alone.events:.2f} windows stored per event. Four "
        f"workers took {memory} MiB each, encoder process included. One thread embeds "
        f"{texts['tokens_per_s']:,.0f} tokens/s ({texts['backend']})."
    )


def written(page: str) -> str:
    """Return the page with every table as the figures are now."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    inputs, assumed = load(), Assumptions()
    largest = SIZES[-1]
    tables = {
        "conditions": conditions(found),
        "measured": measured_table(found),
        "standstills": standstill_table(found),
        "plan": table(SIZES, inputs, assumed),
        "limits": limits_table(inputs, assumed, largest.users / largest.events_per_s),
    }
    for name, text in tables.items():
        begin = f"<!-- written by python -m benchmarks.scaling --page: {name} -->"
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(_END)
        if not (found_begin and found_end):
            raise ValueError(f"docs/scaling.md has no place for {name!r}: {begin} … {_END}")
        page = f"{before}{begin}\n\n{text}\n\n{_END}{after}"
    return page
