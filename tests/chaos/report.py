"""docs/reliability.md, made from the record of plans and of recovery times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos.record import Record, Session
from tests.harness.fault import FaultSpec
from tests.harness.faults import registered

_TEMPLATE = Path(__file__).with_name("reliability.md.in")


def page(records: Sequence[Record], sessions: Sequence[Session], recovery: str) -> str:
    """Return the page."""
    parts = {
        "summary": _summary(records),
        "matrix": _matrix(records),
        "zombies": _zombies(records),
        "failed": _failed(records),
        "seeds": _seeds(records),
        "environment": _environment(sessions, records),
        "recovery": recovery,
    }
    text = _TEMPLATE.read_text()
    for name, part in parts.items():
        text = text.replace("{" + name + "}", part)
    return text.rstrip() + "\n"


def _summary(records: Sequence[Record]) -> str:
    passed = sum(record.passed for record in records)
    events = sum(record.events for record in records)
    lives = sum(record.lives for record in records)
    combined = sum(len(record.faults) > 1 for record in records)
    return (
        f"{len(records)} plans, {passed} of them passed: {events:,} events, {lives:,} starts of "
        f"workers, {combined} plans with more than one fault, "
        f"{sum(r.standby for r in records)} with standby replicas, "
        f"{sum(r.tight for r in records)} with tight caps."
    )


def _matrix(records: Sequence[Record]) -> str:
    known = registered()
    names = sorted({name for record in records for name in record.faults})
    rows = []
    for name in names:
        of_it = [record for record in records if name in record.faults]
        alone = sum(len(record.faults) == 1 for record in of_it)
        rows.append(
            (
                f"`{name}`",
                _meaning(known.get(name)),
                len(of_it),
                sum(record.passed for record in of_it),
                alone,
                sum(record.stale_written for record in of_it) or "",
                sum(record.stale_dropped for record in of_it) or "",
            )
        )
    heads = ("fault", "what is done", "plans", "passed", "alone", "stale", "dropped")
    return _table(heads, rows)


def _meaning(spec: FaultSpec | None) -> str:
    if spec is None:
        return "(no longer there)"
    return spec.meaning


def _zombies(records: Sequence[Record]) -> str:
    zombies = [r for r in records if r.faults[0].startswith("zombie") and r.passed]
    if not zombies:
        return ""
    wrote = [record for record in zombies if record.stale_written]
    windows = sum(bool(record.stale_windows) for record in wrote)
    dropped = sum(bool(record.stale_dropped) for record in zombies)
    return (
        f"{len(zombies)} zombies: {len(wrote)} of them wrote behind their successors ({windows} of "
        "these, of those that were told apart, windows into the changelog), "
        f"{sum(r.stale_written for r in zombies):,} records in all. Compaction then removed "
        f"{sum(r.compacted for r in zombies):,} records, and the third owner's windows and every "
        f"last update were right in each plan. In {dropped} the reader saw stale updates and "
        "dropped them."
    )


def _failed(records: Sequence[Record]) -> str:
    rows = [
        (
            f"{record.seed}" + (f" `--kind {record.kind}`" if record.kind else ""),
            " + ".join(f"`{name}`" for name in record.faults),
            f"`{record.commit}`",
            record.error.partition("\n")[0][:120]
            .replace("|", "/")
            .replace("<", "(")
            .replace(">", ")"),
            _since(record, records),
        )
        for record in records
        if not record.passed
    ]
    heads = ("seed", "faults", "commit", "what was found", "since")
    return _table(heads, rows) if rows else "None."


def _since(failed: Record, records: Sequence[Record]) -> str:
    """Return how plans with these faults went afterwards, on other commits."""
    later = [
        record
        for record in records
        if not set(record.faults).isdisjoint(failed.faults)
        and record.at > failed.at
        and record.commit != failed.commit
    ]
    passed = sum(record.passed for record in later)
    return f"{passed} of {len(later)} passed" if later else "not played"


def _seeds(records: Sequence[Record]) -> str:
    """Return a row for each kind and commit, oldest first: a seed's plan is of its commit."""
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.commit, record.kind].append(record)
    rows = [
        (
            f"`{commit}`",
            f"`{kind}`" if kind else "any",
            len(of_it),
            sum(record.passed for record in of_it),
            _ranges(record.seed for record in of_it),
        )
        for (commit, kind), of_it in groups.items()
    ]
    return _table(("commit", "drawn as", "plans", "passed", "seeds"), rows)


def _environment(sessions: Sequence[Session], records: Sequence[Record]) -> str:
    commits = {record.commit for record in records}
    used = [session for session in sessions if session.commit in commits]
    told = dict.fromkeys(f"- {session.machine}: {session.versions}" for session in used)
    return "\n".join(told)


def _ranges(seeds: Iterable[int]) -> str:
    """Return 1, 2, 3, 7 as ``1-3, 7``."""
    ordered = sorted(set(seeds))
    spans: list[list[int]] = []
    for seed in ordered:
        if spans and seed == spans[-1][-1] + 1:
            spans[-1].append(seed)
        else:
            spans.append([seed])
    return ", ".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans)


def _table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
