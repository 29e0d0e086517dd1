"""A soak as figures, as a plot and as a page of the docs."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.soak.run import Soaked

_BEGIN = "<!-- written by python -m benchmarks.soak --page: begin -->"
_END = "<!-- end -->"
_PACKAGES = ("faust-streaming", "aiokafka", "rocksdict", "torch", "numpy")
_COLUMNS = 4
_LEGEND = "minutes (grey: warm-up; orange: a second worker has half of the partitions)"


def figures(soaked: Soaked) -> dict[str, Any]:
    """Return everything that was found, for JSON."""
    plan = soaked.plan
    return {
        "minutes": plan.minutes,
        "cycle_s": plan.cycle_s,
        "warm_up_s": plan.warm_up_s,
        "encoder": plan.encoder,
        "speed": plan.speed,
        "capacity_events_per_s": round(soaked.capacity),
        "events_per_s": round(soaked.rate),
        "rate_max": plan.rate_max,
        "second_worker": soaked.second_worker,
        "expired": soaked.expired,
        "users_left": soaked.users_left,
        "strays": len(soaked.strays),
        "some_strays": soaked.strays[:20],
        "failures": soaked.failures(),
        "trends": [trend.figures() for trend in soaked.trends],
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "series": {
            name: {"times_s": each.times_s, "values": each.values}
            for name, each in soaked.series.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """Return the trends as a Markdown table."""
    lines = [
        "| series | median | growth per hour | surely over | allowed | |",
        "|---|---|---|---|---|---|",
    ]
    for trend in found["trends"]:
        if trend["judged"]:
            said = f"{trend['per_hour']:+.1%} | {trend['low']:+.1%}"
            verdict = "**grows**" if trend["fails"] else "holds"
        else:
            said, verdict = " | ", f"not judged, {trend['blocks']} blocks"
        median = f"{trend['median']:,.1f} {trend['unit']}".strip()
        lines.append(f"| {trend['name']} | {median} | {said} | {trend['bound']:+.0%} | {verdict} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw every judged series, with the second worker's time and the warm-up shaded."""
    trends = found["trends"]
    rows = -(-len(trends) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(15, 2.5 * rows), squeeze=False)
    for axis in axes.flat[len(trends) :]:
        axis.set_visible(False)
    for axis, trend in zip(axes.flat, trends, strict=False):
        _draw(axis, trend, found)
    figure.supxlabel(_LEGEND, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw(axis: Any, trend: dict[str, Any], found: dict[str, Any]) -> None:
    series = found["series"][trend["name"]]
    minutes = [at_s / 60 for at_s in series["times_s"]]
    warm_up = found["warm_up_s"] / 60
    axis.plot(minutes, series["values"], linewidth=0.8, color="C3" if trend["fails"] else "C0")
    axis.axvspan(0, warm_up, color="0.9", linewidth=0)
    for came_s, went_s in found["second_worker"]:
        axis.axvspan(came_s / 60, went_s / 60, color="C1", alpha=0.12, linewidth=0)
    if trend["judged"]:
        middle = (warm_up + minutes[-1]) / 2
        ends = (warm_up, minutes[-1])
        per_minute = trend["per_hour"] * trend["scale"] / 60
        line = [trend["median"] + per_minute * (at - middle) for at in ends]
        axis.plot(ends, line, linewidth=1, linestyle="--", color="0.3")
    axis.set_title(", ".join(filter(None, (trend["name"], trend["unit"]))), fontsize=9)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)


def write_page(found: dict[str, Any], page: Path) -> None:
    """Put the figures into the page, between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    capped = f", capped at {found['rate_max']:,.0f}," if found["rate_max"] else ""
    said = "Failed: " + "; ".join(found["failures"]) if found["failures"] else "Nothing grows."
    lines = [
        f"{found['minutes']:g} minutes at {found['events_per_s']:,} events/s{capped} where a burst "
        f"just before had found a capacity of {found['capacity_events_per_s']:,}. "
        f"{2 * len(found['second_worker'])} rebalances. "
        f"The first worker alone let {found['expired']:,} windows expire; "
        f"{found['users_left']:,} users were left at the end, and {found['strays']:,} of them "
        f"had an update without a window or a window without an update. {said}",
        "",
        "![Memory, files, threads, disk and latency over the soak](assets/soak.png)",
        "",
        table(found),
    ]
    made = "\n".join(lines)
    page.write_text(f"{before}{_BEGIN}\n\n{made}\n\n{_END}{after}", encoding="utf-8")
