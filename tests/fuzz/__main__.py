"""A million inputs: ``python -m tests.fuzz --inputs 1000000``.

Exit code 1 with the input that broke a decoder, or where memory grew. Prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import sys
import time
from typing import Any

import psutil

from tests.fuzz.targets import TARGETS, Target, damaged, refused

_GROWTH_MAX_BYTES = 16 << 20
"""Of the process over nine tenths of the run: what allocators keep for later is a few MiB."""


def run(name: str, target: Target, inputs: int, seed: int) -> dict[str, Any]:
    """Give one target its inputs; memory counts from when a tenth of them is through."""
    random_ = random.Random(seed)
    process = psutil.Process()
    refusals = slowest_ns = warm_bytes = warm_objects = 0
    slowest = b""
    start = time.perf_counter()
    for number in range(inputs):
        if number == inputs // 10:
            gc.collect()
            warm_bytes, warm_objects = process.memory_info().rss, len(gc.get_objects())
        value = damaged(random_, random_.choice(target.sound))
        began_ns = time.perf_counter_ns()
        try:
            refusals += refused(target, value)
        except BaseException:
            print(f"{name}, input {number} of seed {seed}: {value!r}", file=sys.stderr)
            raise
        took_ns = time.perf_counter_ns() - began_ns
        if took_ns > slowest_ns:
            slowest_ns, slowest = took_ns, value
    gc.collect()
    return {
        "target": name,
        "inputs": inputs,
        "refused": refusals,
        "seconds": round(time.perf_counter() - start, 1),
        "grown_bytes": process.memory_info().rss - warm_bytes,
        "grown_objects": len(gc.get_objects()) - warm_objects,
        "slowest_ms": round(_again_ns(target, slowest) / 1e6, 2),
        "slowest_input_bytes": len(slowest),
    }


def _again_ns(target: Target, value: bytes) -> int:
    """Return how long the slowest input takes by itself: what else ran at the time is left out."""
    times_ns = []
    for _ in range(5):
        began_ns = time.perf_counter_ns()
        refused(target, value)
        times_ns.append(time.perf_counter_ns() - began_ns)
    return min(times_ns)


def main() -> int:
    """Run all targets, each with its share of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=6)
    said = parser.parse_args()
    share = said.inputs // len(TARGETS)
    found = [run(name, target, share, said.seed) for name, target in TARGETS.items()]
    print(json.dumps({"python": platform.python_version(), "seed": said.seed, "targets": found}))
    grown = [each["target"] for each in found if each["grown_bytes"] > _GROWTH_MAX_BYTES]
    if grown:
        print(f"memory grew: {', '.join(grown)}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
