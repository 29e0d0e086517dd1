"""Where in the log a replay begins and ends, and whether the log still reaches back so far."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from stream_app.errors import FixSettings
from stream_app.replaying.plan import Reach
from stream_app.replaying.positions import EARLIEST, LATEST, AtOffsets, AtTime, Position
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer
from stream_app.topic_settings import POLICY, visible

_READ_TIMEOUT_S = 10.0


class SourceLog:
    """The events topic as it stands: its beginnings, its ends, and what lies where."""

    def __init__(
        self, topic: str, consumer: AIOKafkaConsumer, begins: dict[int, int], ends: dict[int, int]
    ) -> None:
        self.topic = topic
        self._consumer = consumer
        self.begins = begins
        self.ends = ends

    async def offsets(self, at: Position) -> dict[int, int]:
        """Return the offset of a point in each partition that it names, inside the log.

        Raises:
            FixSettings: it names a partition that does not exist.
        """
        if at == EARLIEST:
            return dict(self.begins)
        if at == LATEST:
            return dict(self.ends)
        if isinstance(at, AtTime):
            return await self.at_times(dict.fromkeys(self.begins, at.time_ms))
        assert isinstance(at, AtOffsets)
        unknown = at.offsets.keys() - self.begins.keys()
        if unknown:
            raise FixSettings(
                f"{self.topic} has partitions 0 to {len(self.begins) - 1}; found {min(unknown)}"
            )
        return {n: min(max(o, self.begins[n]), self.ends[n]) for n, o in at.offsets.items()}

    async def at_times(self, times_ms: Mapping[int, int]) -> dict[int, int]:
        """Return in each partition the offset of the first record of that time or later."""
        asked = {TopicPartition(self.topic, n): max(0, ms) for n, ms in times_ms.items()}
        if not asked:
            return {}
        found = await self._consumer.offsets_for_times(asked)
        return {
            tp.partition: self.ends[tp.partition] if at is None else at.offset
            for tp, at in found.items()
        }

    async def time_at(self, partition: int, offset: int) -> int | None:
        """Return the timestamp of the first record at ``offset`` or behind it, if there is one."""
        if offset >= self.ends[partition]:
            return None
        tp = TopicPartition(self.topic, partition)
        self._consumer.seek(tp, offset)
        try:
            record = await asyncio.wait_for(self._consumer.getone(tp), _READ_TIMEOUT_S)
        except (TimeoutError, KafkaError):  # nothing but gaps up to the end
            return None
        return int(record.timestamp)


async def read_log(settings: Settings, consumer: AIOKafkaConsumer) -> SourceLog:
    """Return the events topic as it stands, read by ``consumer``, which has its partitions."""
    partitions = list(consumer.assignment())
    begins = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    return SourceLog(
        settings.events_topic,
        consumer,
        {tp.partition: begins[tp] for tp in sorted(partitions)},
        {tp.partition: ends[tp] for tp in sorted(partitions)},
    )


async def find_reach(
    settings: Settings, start: Position, end: Position, warm_up_ms: int
) -> tuple[dict[int, Reach], list[str]]:
    """Return what to read of each partition, and what the owner has to know of it.

    A partition that ``start`` does not name is left out: it is read from 0 to 0. One that ``end``
    does not name is read to its end of now.

    Raises:
        FixSettings: a partition does not exist, or nothing lies between start and end.
        WaitForBroker: the broker does not answer.
    """
    async with open_consumer(settings.kafka, settings.events_topic) as consumer:
        source = await read_log(settings, consumer)
        starts = await source.offsets(start)
        ends = {**source.ends, **await source.offsets(end)}
        starts = {number: min(offset, ends[number]) for number, offset in starts.items()}
        named, notes = await _warmed_up(source, start, starts, ends, warm_up_ms)
        reach = {number: Reach(0, 0, 0) for number in source.begins} | named
        if not any(each.end > each.start for each in reach.values()):
            raise FixSettings(
                f"nothing lies between --from and --to: {settings.events_topic} holds "
                + ", ".join(f"{n}:{b} to {n}:{source.ends[n]}" for n, b in source.begins.items())
            )
    seen = await visible(settings, [settings.events_topic])
    if "compact" in seen.get(settings.events_topic, {}).get(POLICY, ""):
        notes.append(
            f"{settings.events_topic} is compacted: which earlier events are gone cannot be told"
        )
    return reach, notes


async def further(
    source: SourceLog, planned: Mapping[int, Reach], start: Position, warm_up_ms: int
) -> tuple[dict[int, Reach], list[str]]:
    """Return what was planned, up to the present end of the log, and what is new to know of it.

    A partition of which there was nothing to read yet is warmed up as in a first plan. One that
    ``start`` does not name stays left out.
    """
    named = start.offsets if isinstance(start, AtOffsets) else planned
    ends = {n: max(each.end, source.ends[n]) for n, each in planned.items() if n in named}
    unread = {n: planned[n].start for n in ends if planned[n].start == planned[n].end}
    anew, notes = await _warmed_up(source, start, unread, ends, warm_up_ms)
    moved = {n: replace(planned[n], end=end) for n, end in ends.items()}
    return {**planned, **moved, **anew}, notes


async def _warmed_up(
    source: SourceLog,
    start: Position,
    starts: Mapping[int, int],
    ends: Mapping[int, int],
    warm_up_ms: int,
) -> tuple[dict[int, Reach], list[str]]:
    """Return what to read of the partitions in ``starts``, and what the owner has to know of it."""
    wanted = await _warm_up_times(source, start, starts, ends, warm_up_ms)
    firsts = {**starts, **await source.at_times(wanted)}
    reach = {n: Reach(min(firsts[n], at), at, ends[n]) for n, at in starts.items()}
    return reach, await _notes(source, reach, wanted, warm_up_ms)


async def _warm_up_times(
    source: SourceLog,
    start: Position,
    starts: Mapping[int, int],
    ends: Mapping[int, int],
    warm_up_ms: int,
) -> dict[int, int]:
    """Return the time at which the warm-up of each partition begins, where that is known."""
    if not warm_up_ms:
        return {}
    wanted = {}
    for number, offset in starts.items():
        if offset >= ends[number]:
            continue
        time_ms = start.time_ms if isinstance(start, AtTime) else None
        if time_ms is None:
            time_ms = await source.time_at(number, offset)
        if time_ms is not None:
            wanted[number] = time_ms - warm_up_ms
    return wanted


async def _notes(
    source: SourceLog, reach: Mapping[int, Reach], wanted: Mapping[int, int], warm_up_ms: int
) -> list[str]:
    notes = []
    for number, each in reach.items():
        begin = source.begins[number]
        if each.end <= each.start:
            continue
        if each.first > begin or begin == 0:
            if each.first == each.start > begin and not warm_up_ms:
                notes.append(
                    f"partition {number}: windows begin empty at offset {each.start}, though "
                    "earlier events are there: --warm-up window would read them"
                )
            continue
        notes.append(await _beginning(source, number, wanted.get(number)))
    return notes


async def _beginning(source: SourceLog, number: int, wanted_ms: int | None) -> str:
    """Say what it means that reading begins where the log does, which has lost its beginning."""
    begin = source.begins[number]
    begun_ms = await source.time_at(number, begin)
    where = f"partition {number}: the log begins at offset {begin}"
    if begun_ms is None:
        return f"{where}, and whether that is far enough back cannot be told: it has no record"
    if wanted_ms is None:
        return f"{where} ({_time(begun_ms)}): earlier events are gone, windows lack them"
    missing = (begun_ms - wanted_ms) / 86_400_000
    return (
        f"{where} ({_time(begun_ms)}), {missing:.1f} days short of what the warm-up wants "
        f"({_time(wanted_ms)}): the first windows lack events"
    )


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
