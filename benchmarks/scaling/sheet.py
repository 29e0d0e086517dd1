"""``python -m benchmarks.scaling.sheet``: the plan as a table.

Other sizes than those of the page: ``--users 5e7 --events 2e5``.
"""

from __future__ import annotations

import argparse

from benchmarks.scaling.capacity import SIZES, Assumptions, Needed, Target, limits, needed
from benchmarks.scaling.inputs import Inputs, load

_MB = 1e6
_GB = 1e9
_HOUR_S = 3_600


def _rows(all_needed: list[Needed], assumed: Assumptions) -> list[tuple[str, list[str]]]:
    def row(label: str, show: object) -> tuple[str, list[str]]:
        return label, [show(each) for each in all_needed]  # type: ignore[operator]

    return [
        row("workers", lambda n: f"{n.workers:,}"),
        row("partitions of events, changelog, updates", lambda n: f"{n.partitions:,}"),
        row("groups, to keep standstills within a minute a day", lambda n: f"{n.groups:,}"),
        row("cores for event loops", lambda n: f"{n.worker_cores:,.1f}"),
        row("cores for users' vectors", lambda n: f"{n.encoder_cores:,.1f}"),
        row("CPU threads for new texts", lambda n: f"{n.text_threads:,.1f}"),
        row("or GPUs for them (assumed speed)", lambda n: f"{n.gpus:,.2f}"),
        row("users per partition", lambda n: f"{n.users_per_partition:,.0f}"),
        row(
            "disk per worker, one standby",
            lambda n: f"{n.disk_per_worker_bytes / _GB:,.1f} GB",
        ),
        row(
            "of that, text vectors of the catalogue",
            lambda n: f"{n.catalogue_text_bytes / _GB:,.1f} GB",
        ),
        row(
            "embedding the catalogue once, one thread",
            lambda n: f"{n.catalogue_text_s / _HOUR_S:,.1f} h",
        ),
        row("memory per worker", lambda n: f"{n.memory_per_worker_bytes / _GB:,.1f} GB"),
        row("windows stored per event", lambda n: f"{n.stored_per_event:.2f}"),
        row("changelog", lambda n: f"{n.changelog_bytes_s / _MB:,.0f} MB/s"),
        row("updates, Avro float16", lambda n: f"{n.updates_bytes_s / _MB:,.0f} MB/s"),
        row("events", lambda n: f"{n.events_bytes_s / _MB:,.1f} MB/s"),
        row(
            f"brokers at {assumed.broker_write_mb_s:.0f} MB/s, {assumed.replication} copies",
            lambda n: f"{n.brokers:,}",
        ),
        row("restore of a lost disk, no standby", lambda n: f"{n.restore_s:,.0f} s"),
        row("standstill a day in one group", lambda n: f"{n.standstill_a_day_s:,.0f} s"),
    ]


def table(sizes: tuple[Target, ...], inputs: Inputs, assumed: Assumptions) -> str:
    """Return the sheet as a Markdown table, a column for each size."""
    found = [needed(size, inputs, assumed) for size in sizes]
    head = [f"{size.users:,.0f} users, {size.events_per_s:,.0f} events/s" for size in sizes]
    lines = ["| | " + " | ".join(head) + " |", "|---" * (1 + len(sizes)) + "|"]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in _rows(found, assumed)]
    return "\n".join(lines)


def limits_table(inputs: Inputs, assumed: Assumptions, users_per_event_s: float) -> str:
    """Return what gives way first, as a Markdown table."""
    lines = ["| at events/s | gives way | then |", "|---|---|---|"]
    lines += [
        f"| {limit.events_per_s:,.0f} | {limit.what} | {limit.then} |"
        for limit in limits(inputs, assumed, users_per_event_s)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.sheet", description=__doc__)
    parser.add_argument("--users", type=float)
    parser.add_argument("--events", type=float, help="per second")
    arguments = parser.parse_args()
    inputs, assumed, sizes = load(), Assumptions(), SIZES
    if arguments.users and arguments.events:
        sizes = (Target(arguments.users, arguments.events),)
    print(inputs, assumed, sep="\n", end="\n\n")
    print(table(sizes, inputs, assumed), end="\n\n")
    print(limits_table(inputs, assumed, sizes[-1].users / sizes[-1].events_per_s))


if __name__ == "__main__":
    main()
