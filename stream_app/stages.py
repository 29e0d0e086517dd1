"""The stages of an event's way to its user's update, and how long each took.

Looking at every record would cost more than it tells. Of each fetch some records stand for those
around them (:class:`Arrival`), and what happens to all events of a round at once is timed once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

STAGES = ("broker_wait", "queue", "text", "interest", "publish", "total")
_STANDS_FOR = 64
"""Records of a fetch for which one of them stands: their timestamps lie close together, and 3 µs of
counting are not felt beside half a millisecond of folding."""


class Arrival(NamedTuple):
    """Some events of one fetch. Times are seconds since the epoch."""

    produced_s: float
    """Timestamp of the record in their middle."""
    drained_s: float
    events: int


@dataclass(slots=True)
class RoundTimes:
    """When a round did what, in seconds since the epoch."""

    gathered_s: float
    text_s: float = 0.0
    """How long its texts took."""
    encoded_s: float = 0.0


def arrivals(
    records: Sequence[ConsumerRecord], without: Collection[int], drained_s: float
) -> list[Arrival]:
    """Return who stands for the records of a fetch; those at offsets ``without`` are no events."""
    if without:
        records = [record for record in records if record.offset not in without]
    found = []
    for start in range(0, len(records), _STANDS_FOR):
        events = min(_STANDS_FOR, len(records) - start)
        middle = records[start + events // 2]
        found.append(Arrival(middle.timestamp / 1000, drained_s, events))
    return found


def stage_seconds(
    arrival: Arrival, times: RoundTimes, acknowledged_s: float
) -> tuple[float, float, float, float, float, float]:
    """Return the time spent in each of :data:`STAGES`; none is negative, whatever clocks say.

    The first five add up to the last.
    """
    waited_s = max(0.0, arrival.drained_s - arrival.produced_s)
    queued_s = max(0.0, times.gathered_s - arrival.drained_s)
    text_s = times.text_s
    interest_s = max(0.0, times.encoded_s - times.gathered_s - text_s)
    publish_s = max(0.0, acknowledged_s - times.encoded_s)
    total_s = waited_s + queued_s + text_s + interest_s + publish_s
    return waited_s, queued_s, text_s, interest_s, publish_s, total_s
