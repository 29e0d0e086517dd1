"""Run a soak: python -m benchmarks.soak --minutes 30.

Exit code 1 names what grows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.soak import report
from benchmarks.soak.run import SoakPlan, soak

DOCS = Path(__file__).parents[2] / "docs"


def _plan(arguments: argparse.Namespace) -> SoakPlan:
    if arguments.smoke:
        return SoakPlan(
            minutes=arguments.minutes, cycle_s=12, warm_up_s=6, burst_s=3, sample_s=1,
            encoder="stub", smoke=True, partitions=4, speed=1_200, rate_max=500,
        )  # fmt: skip
    return SoakPlan(
        minutes=arguments.minutes,
        rate_max=arguments.rate_max,
        cycle_s=arguments.cycle_s,
        warm_up_s=arguments.warm_up_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate-max", type=float, default=0.0, help="events per second at most")
    parser.add_argument("--cycle-s", type=float, default=SoakPlan.cycle_s, help="two rebalances")
    parser.add_argument("--warm-up-s", type=float, default=SoakPlan.warm_up_s, help="not judged")
    parser.add_argument("--smoke", action="store_true", help="the stub and short cycles")
    parser.add_argument("--out", type=Path, default=Path(".run/soak"), help="figures and plot")
    parser.add_argument("--page", action="store_true", help="write docs/soak.md and its plot, too")
    parser.add_argument("--again", action="store_true", help="plot and page of the last figures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "soak.json"
    if not arguments.again:
        path.write_text(json.dumps(_run(_plan(arguments), arguments.out)))
    figures = json.loads(path.read_text())
    report.plot(figures, arguments.out / "soak.png")
    if arguments.page:
        report.write_page(figures, DOCS / "soak.md")
        shutil.copy(arguments.out / "soak.png", DOCS / "assets" / "soak.png")
    print(report.table(figures))
    for failure in figures["failures"]:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if figures["failures"] else 0)


def _run(plan: SoakPlan, out: Path) -> dict[str, Any]:
    """Return the figures of a soak; the workers' logs go to ``out``."""
    with tempfile.TemporaryDirectory(prefix="interest-soak-") as name:
        try:
            return report.figures(soak(plan, Path(name)))
        finally:
            for log in Path(name).glob("*.log"):
                shutil.copy(log, out)


if __name__ == "__main__":
    main()
