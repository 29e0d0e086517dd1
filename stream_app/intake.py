"""Decode and fold: from a RecordBatch to windows that are touched and dirty."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

from state.event import Event, EventLimits, EventType, InvalidEvent, decode
from state.masking import mask
from state.window import WindowPolicy, fold
from stream_app.dead_letters import DeadLetter, masked
from stream_app.meters import Meters, Outcomes, no_outcomes
from stream_app.partition import Forgotten, Partition
from stream_app.stages import arrivals
from stream_app.status import Counts

_SLICE_RECORDS = 128
"""Records folded before the event loop may run something else: about 1 ms."""
_SLICE_BYTES = 65_536
"""Or so many bytes: a text made to be slow to mask takes some 8 us a character."""


class Decoded(NamedTuple):
    """An event with its user's key, which is the record's unless it is a pseudonym, and offset."""

    key: bytes
    event: Event
    offset: int


def decode_records(
    records: Sequence[ConsumerRecord], limits: EventLimits
) -> tuple[list[Decoded], list[DeadLetter]]:
    """Return the events of these records and, beside them, what is none. Pure."""
    events: list[Decoded] = []
    dead: list[DeadLetter] = []
    renamed = limits.pseudonyms is not None
    for record in records:
        try:
            event = decode(record.key, record.value, record.timestamp, limits)
        except InvalidEvent as error:
            dead.append(_letter(record, error, limits))
        else:
            key = event.user_id.encode() if renamed else record.key
            events.append(Decoded(key, event, record.offset))
    return events, dead


def _letter(record: ConsumerRecord, error: InvalidEvent, limits: EventLimits) -> DeadLetter:
    """Return a refused record: as it came, or masked, for the topic outlives the events.

    What is masked is cut at ``max_bytes`` first: masking takes time in the event loop.
    """
    is_masked = bool(limits.masked_types)
    whole = record.value
    kept = whole[: limits.max_bytes] if whole and is_masked else whole
    value = masked(kept) if is_masked else kept
    return DeadLetter(
        record.key,
        value,
        error.reason,
        mask(error.detail) if is_masked else error.detail,  # it may quote what was found
        record.topic,
        record.partition,
        record.offset,
        masked=value is not kept,
        truncated_from=len(whole) if whole and kept is not whole else None,
    )


def fold_events(partition: Partition, events: Sequence[Decoded], policy: WindowPolicy) -> Outcomes:
    """Fold events into the partition's windows; return how many of each type had each outcome.

    Every user of an event is touched; those whose window changed are dirty.
    """
    partition.load(decoded.key for decoded in events)
    hot, dirty, touched = partition.hot, partition.dirty, partition.touched
    expiring, stream_ms = partition.expiring, partition.stream_ms
    outcomes = no_outcomes()
    for key, event, offset in events:
        before = hot[key]
        after, outcome = fold(before, event, offset, policy)
        outcomes[event.type][outcome] += 1
        state = Forgotten(offset) if after is None else after
        touched[key] = state
        if expiring:
            expiring.pop(key, None)
        # A forget has the time it was asked for, not that of the events around it; delivered again
        # it leaves a window standing.
        if event.time_ms > stream_ms and event.type is not EventType.FORGET:
            stream_ms = event.time_ms
        if after is None and before is not None:
            partition.forgotten_texts += [text for text in before.texts if text]
        if after is not before or after is None:
            hot[key] = after
            dirty[key] = state
    partition.stream_ms = stream_ms
    return outcomes


def _slices(records: Sequence[ConsumerRecord]) -> Iterator[Sequence[ConsumerRecord]]:
    """Yield the records in slices that neither hold too many nor, but for the last, too much."""
    start = size_bytes = 0
    for at, record in enumerate(records):
        if at - start == _SLICE_RECORDS or size_bytes >= _SLICE_BYTES:
            yield records[start:at]
            start, size_bytes = at, 0
        size_bytes += len(record.value or b"")
    if start < len(records):
        yield records[start:]


class Intake:
    """Takes RecordBatches up, slice by slice, so that the event loop never stalls."""

    def __init__(
        self, limits: EventLimits, policy: WindowPolicy, counts: Counts, meters: Meters
    ) -> None:
        self._limits = limits
        self._policy = policy
        self._counts = counts
        self._meters = meters

    async def take(
        self, partition: Partition, records: Sequence[ConsumerRecord], drained_s: float
    ) -> list[DeadLetter]:
        """Fold all records and return the dead letters among them.

        ``drained_s``: when they were drained from the consumer, in seconds since the epoch.

        Raises:
            PartitionRevoked: the partition left us meanwhile; nothing of this counts.
        """
        dead: list[DeadLetter] = []
        counts = self._counts
        for number, part in enumerate(_slices(records)):
            if number:
                await asyncio.sleep(0)
            partition.must_be_ours()
            events, refused = decode_records(part, self._limits)
            outcomes = fold_events(partition, events, self._policy)
            folded, redelivered, duplicate, late, forgotten = self._meters.folded(outcomes)
            without = {letter.offset for letter in refused}
            partition.arrivals += arrivals(part, without, drained_s)
            counts.records += len(part)
            counts.folded += folded
            counts.redelivered += redelivered
            counts.duplicate += duplicate
            counts.late += late
            counts.forgotten += forgotten
            counts.dead_letters += len(refused)
            dead += refused
            partition.last_offset = part[-1].offset
        return dead
