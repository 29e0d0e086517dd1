"""From results to a table for people and one line of JSON for scripts."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import Agreement, summary
from benchmarks.contestants import ALL
from benchmarks.latency import Latency
from benchmarks.prepare import Prepared
from benchmarks.throughput import Throughput
from benchmarks.workload import Workload

_MIB = 1 << 20
_WARM_SHARE = 0.3
"""Of the run, before memory is looked at: windows of 50 are full after a sixth of the steady run,
RocksDB's write buffers after about a quarter."""

_VERSIONS = (
    "aiokafka", "confluent-kafka", "faust-streaming", "numpy", "quixstreams", "rocksdict",
    "sentence-transformers", "torch", "transformers",
)  # fmt: skip


@dataclass
class Results:
    """Everything that was measured."""

    workload: Workload
    prepared: Prepared
    throughput: dict[str, list[Throughput]] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    steady: Throughput | None = None
    texts: dict[str, Any] = field(default_factory=dict)
    took_s: float = 0.0

    def rate(self, name: str) -> float:
        """Return the median events/s of a contestant's runs."""
        return statistics.median(run.rate for run in self.throughput[name])


def ratios(results: Results) -> dict[str, float | None]:
    """Ours over theirs: throughput, more is better; latency, less is better."""
    ours, latency = results.rate("ours"), results.latency
    return {
        "stock_faust": _rounded(ours / results.rate("stock_faust")),
        "quix": _rounded(ours / results.rate("quix")),
        "aiokafka_rocksdict": _rounded(ours / results.rate("plain_aiokafka")),
        "p50_quix": _rounded(latency["ours"].p50_ms / latency["quix"].p50_ms),
        "p99_quix": _rounded(latency["ours"].p99_ms / latency["quix"].p99_ms),
        "sentence_transformers": _rounded(results.texts.get("ratio")),
    }


def figures(results: Results) -> dict[str, Any]:
    """Return the JSON line."""
    workload = results.workload
    return {
        "ratios": ratios(results),
        "bit_identical": results.texts.get("bit_identical"),
        "throughput": {name: _spread(runs) for name, runs in results.throughput.items()},
        "latency_ms": {
            name: {
                "p50": round(waited.p50_ms, 2),
                "p99": round(waited.p99_ms, 2),
                "events": waited.events,
                "unanswered": waited.unanswered,
            }
            for name, waited in results.latency.items()
        },
        "memory": {
            "over_the_contest": _memory(results.throughput["ours"][-1]),
            "windows_full": _memory(results.steady) if results.steady else None,
        },
        "agreement": {name: summary(found) for name, found in results.agreements.items()},
        "text_encoder": results.texts,
        "ours": _own_counters(results),
        "sizes": {
            "events": workload.events,
            "users": workload.users,
            "items": workload.items,
            "partitions": workload.partitions,
            "window_events": 50,
            "dimensions": results.prepared.dimensions,
            "commit_interval_s": 1.0,
        },
        "versions": _versions(),
        "cpu": {"model": _cpu(), "cores": os.cpu_count(), "load_at_end": os.getloadavg()[0]},
        "took_s": round(results.took_s),
    }


def table(results: Results) -> str:
    """Return the table."""
    lines = [
        "",
        f"{'':38}{'events/s':>10}{'spread':>16}{'runs':>5}{'events':>9}{'updates':>9}"
        f"{'start s':>8}{'MiB':>6}",
    ]
    for contestant in ALL:
        runs = results.throughput.get(contestant.name)
        if runs:
            spread = _spread(runs)
            low_high = f"{spread['low']:,}-{spread['high']:,}"
            lines.append(
                f"{contestant.label:38}{spread['events_per_s']:>10,}{low_high:>16}{len(runs):>5}"
                f"{spread['events']:>9,}{spread['updates']:>9,}{spread['startup_s']:>8}"
                f"{spread['memory_mib_end']:>6}"
            )
    lines += ["", f"{'event to update at 1,000 events/s':38}{'p50 ms':>10}{'p99 ms':>16}"]
    for contestant in ALL:
        waited = results.latency.get(contestant.name)
        if waited:
            late = f"  ({waited.unanswered} unanswered)" if waited.unanswered else ""
            p50, p99 = f"{waited.p50_ms:.1f}", f"{waited.p99_ms:.1f}"
            lines.append(f"{contestant.label:38}{p50:>10}{p99:>16}{late}")
    lines += ["", "ours over theirs (latency: under 1 is better)"]
    lines += [f"  {name:36}{value!s:>10}" for name, value in ratios(results).items()]
    lines += [_remarks(results), ""]
    return "\n".join(lines)


def disagreements(results: Results) -> list[str]:
    """Return the contestants that did not do the same job, each with how far off it was."""
    return [
        f"{name}: {found.wrong} of {found.checked} wrong, by up to {found.largest_difference:.1e}"
        for name, found in results.agreements.items()
        if found.wrong
    ]


def _remarks(results: Results) -> str:
    wrong = sum(found.wrong for found in results.agreements.values())
    checked = sum(found.checked for found in results.agreements.values())
    lines = [
        "",
        f"{checked - wrong} of {checked} updates looked at are what a plain loop computes.",
        "Clock: first update stamped by the broker, to the last offset committed. Stock Faust",
        "runs on the first tenth of the events (doing nothing: a quarter); the rate is compared.",
    ]
    lines += [f"NOT COMPARABLE, another job: {line}" for line in disagreements(results)]
    encoded = _own_counters(results).get("texts_encoded", 0)
    if encoded:
        lines.append(f"NOT WARM: our worker encoded {encoded} texts while the clock ran.")
    return "\n".join(lines)


def _spread(runs: list[Throughput]) -> dict[str, Any]:
    rates = sorted(round(run.rate) for run in runs)
    return {
        "events_per_s": round(statistics.median(rates)),
        "low": rates[0],
        "high": rates[-1],
        "runs": len(rates),
        "events": runs[-1].events,
        "updates": runs[-1].updates,
        "seconds": round(statistics.median(run.seconds for run in runs), 2),
        "startup_s": round(statistics.median(run.startup_s for run in runs), 1),
        "memory_mib_end": runs[-1].memory[-1][1] // _MIB if runs[-1].memory else 0,
    }


def _memory(run: Throughput) -> dict[str, Any]:
    """Resident MiB of the process tree at the start, middle and end, and its slope when warm."""
    if len(run.memory) < 3:  # too short a run for a slope
        return {"samples": len(run.memory)}
    sizes = [size / _MIB for _, size in run.memory]
    warm = run.memory[int(len(run.memory) * _WARM_SHARE) :]
    times = np.array([at for at, _ in warm])
    slope = float(np.polyfit(times, np.array([size / _MIB for _, size in warm]), 1)[0])
    return {
        "samples": len(sizes),
        "start_mib": round(sizes[0]),
        "mid_mib": round(sizes[len(sizes) // 2]),
        "end_mib": round(sizes[-1]),
        "warm_slope_mib_per_s": round(slope, 2),
        "warm_growth": round(slope * (times[-1] - times[0]) / sizes[int(len(sizes) * 0.3)], 4),
    }


def _own_counters(results: Results) -> dict[str, Any]:
    status = results.throughput["ours"][-1].status
    counts = status.get("counts")
    wanted = ("loop_lag_ms_p99", "loop_lag_ms_max", "encoder_backend", "items_known")
    return {
        **(counts if isinstance(counts, dict) else {}),
        **{name: status.get(name) for name in wanted},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _VERSIONS
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
