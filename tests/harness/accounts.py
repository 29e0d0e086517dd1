"""The workers' own counts, over all their lives: every record became exactly one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.harness.reference import Reference
from tests.harness.worker import Life, Worker

OUTCOMES = ("folded", "redelivered", "duplicate", "late", "forgotten", "dead_letters")


def all_lives(workers: Iterable[Worker]) -> list[Life]:
    """Return every start of every worker."""
    return [life for worker in workers for life in (*worker.lives, worker.life())]


def lives(workers: Iterable[Worker]) -> int:
    """Return how many starts there were."""
    return len(all_lives(workers))


def totals(workers: Iterable[Worker]) -> Counter[str]:
    """Return the sum of all lives' counts; of a killed one, as its status file said at last."""
    total: Counter[str] = Counter()
    for life in all_lives(workers):
        total.update(life.counts)
    return total


def assert_add_up(workers: Sequence[Worker], reference: Reference, *, exactly: bool) -> None:
    """Each life's outcomes add up to its records, and all lives' together are no less than sent.

    A record may be taken twice, by two lives; ``exactly`` where it may not, because nobody was
    killed and no partition changed hands. What a killed life has done since it last wrote its
    status file is not known, so of its plan only the first holds.
    """
    found = all_lives(workers)
    for life in found:
        of_records = sum(life.counts.get(name, 0) for name in OUTCOMES)
        assert life.counts.get("records", 0) == of_records, f"records of a life: {life}"
    if not all(life.ended_cleanly for life in found):
        return
    total = totals(workers)
    for name in ("folded", "duplicate", "late", "forgotten", "dead_letters"):
        wanted = reference.outcomes[name]
        assert total[name] >= wanted, f"{name}: {total[name]} counted, {wanted} sent"
        assert not exactly or total[name] == wanted, f"{name}: {total[name]} counted, not {wanted}"
    assert not exactly or not total["redelivered"]
