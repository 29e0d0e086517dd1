"""``make chaos``: random plans until the time is over; and each of them once more by its seed."""

from __future__ import annotations

import itertools
import logging
import math
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos import record
from tests.chaos.recovery import recovery_part
from tests.chaos.report import page
from tests.chaos.running import run_all
from tests.harness.inflicting import Outcome
from tests.harness.plan import draw

app = typer.Typer(add_completion=False, no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)

FOLDER = Path(".run/chaos")

Kind = Annotated[str, typer.Option(help="Only faults whose name begins so, e.g. worker.kill-at.")]
RecordFile = Annotated[Path, typer.Option("--record", help="JSON Lines, appended to.")]


@app.command()
def run(
    minutes: Annotated[float, typer.Option(help="After so long no further plan begins.")] = 10,
    seed: Annotated[int | None, typer.Option(help="Of the first plan; others count on.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Plans side by side.")] = 2,
    kind: Kind = "",
    plans: Annotated[int, typer.Option(help="At most so many.")] = sys.maxsize,
    record_file: RecordFile = FOLDER / "results.jsonl",
) -> None:
    """Play random plans; exit 1 if one failed."""
    first = random.SystemRandom().randrange(10**6) * 1000 if seed is None else seed
    seeds = itertools.islice(itertools.count(first), plans)
    outcomes = _play(seeds, kind, minutes=minutes, jobs=jobs, record_file=record_file)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    out.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} plans passed")
    for outcome in failed:
        out.print(f"failed: {outcome.plan}, again with: {_again(outcome, kind)}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def plan(
    seeds: list[int],
    jobs: Annotated[int, typer.Option(min=1, help="Plans side by side.")] = 1,
    kind: Kind = "",
    record_file: RecordFile = FOLDER / "results.jsonl",
) -> None:
    """Play the plans of some seeds again, and say all of them."""
    for seed in seeds:
        out.print(draw(seed, kind))
    outcomes = _play(seeds, kind, minutes=math.inf, jobs=jobs, record_file=record_file)
    raise typer.Exit(0 if all(outcome.passed for outcome in outcomes) else 1)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="The record.")] = Path("docs/reliability.jsonl"),
    recovery: Annotated[Path, typer.Option(help="Of benchmarks.recovery.")] = Path(
        "docs/recovery.json"
    ),
    page_file: Annotated[Path, typer.Option("--out")] = Path("docs/reliability.md"),
) -> None:
    """Write docs/reliability.md from records."""
    lines = list(record.read([file]))
    records = [line for line in lines if isinstance(line, record.Record)]
    sessions = [line for line in lines if isinstance(line, record.Session)]
    page_file.write_text(page(records, sessions, recovery_part(recovery, page_file.parent)))
    out.print(f"{page_file}: {len(records)} plans")


def _play(
    seeds: Iterable[int], kind: str, *, minutes: float, jobs: int, record_file: Path
) -> list[Outcome]:
    outcomes: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        record.append(record_file, record.Record.of(outcome, kind))
        _say(outcome, kind)

    record.append(record_file, record.Session.here())
    plans = (draw(seed, kind) for seed in seeds)
    until = time.monotonic() + minutes * 60
    run_all(plans, FOLDER.absolute(), jobs=jobs, until=until, told=told)
    return outcomes


def _say(outcome: Outcome, kind: str) -> None:
    what = "passed" if outcome.passed else "[red]FAILED[/red]"
    out.print(f"{outcome.plan}: {what}, {outcome.seconds:.0f} s")
    if not outcome.passed:
        out.print(outcome.error.strip(), markup=False)
        out.print(f"  again: {_again(outcome, kind)}")


def _again(outcome: Outcome, kind: str) -> str:
    return f"python -m tests.chaos plan {outcome.plan.seed}" + (f" --kind {kind}" if kind else "")


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away: that is the point
    app()
