"""The live group back to a point of its log: what that would do, and doing it.

Offsets alone do not rewind. A window remembers the last source offset applied to it, so events that
come again change nothing. So the windows that include events from the point on are declared past,
by a mark in the changelog (:mod:`state.era`), and are made anew from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from state import codec, era
from stream_app import topics
from stream_app.errors import FixSettings, WaitForBroker
from stream_app.kafka_access import client_options
from stream_app.replaying import group
from stream_app.replaying.positions import LATEST, AtOffsets, Position
from stream_app.replaying.reach import read_log
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end


class PartitionRewind(NamedTuple):
    """What a rewind does to one partition."""

    partition: int
    committed: int
    to: int
    log_begin: int
    era: int
    """That its windows are in now."""
    users_anew: int
    """Users whose window includes events from ``to`` on: it is dropped and made anew from there."""
    users_kept: int
    """Users without an event from ``to`` on: their window stays as it is."""

    @property
    def events(self) -> int:
        """How many offsets are read again."""
        return self.committed - self.to


async def plan_rewind(settings: Settings, to: Position) -> list[PartitionRewind]:
    """Return what a rewind would do, partition by partition; those it leaves alone are left out.

    Raises:
        FixSettings: ``to`` lies ahead of what is committed, or nothing is to be rewound.
        GroupHasMembers: workers are alive.
        FixData, WaitForBroker: the changelog or the broker cannot be read.
    """
    if to == LATEST:
        raise FixSettings("a rewind goes back: --to is earliest, a time or offsets, not latest")
    await group.must_be_empty(settings.kafka, settings.app_id, "rewind")
    await topics.check(settings)
    committed = await topics.committed(settings)
    async with open_consumer(settings.kafka, settings.events_topic) as consumer:
        source = await read_log(settings, consumer)
        wanted = await source.offsets(to)
    ahead = _ahead(wanted, committed)
    if isinstance(to, AtOffsets):
        for number, at in _ahead(to.offsets, committed).items():
            raise FixSettings(
                f"partition {number}: offset {at} lies ahead of the committed {committed[number]}; "
                "a rewind only goes back, for what it skips would be lost"
            )
    back = {n: at for n, at in wanted.items() if n in committed and n not in ahead}
    if not back:
        raise FixSettings(
            f"nothing to rewind: group {settings.app_id} has committed nothing behind that point"
        )
    return [
        PartitionRewind(n, committed[n], at, source.begins[n], *await _windows(settings, n, at))
        for n, at in sorted(back.items())
    ]


def _ahead(wanted: Mapping[int, int], committed: Mapping[int, int]) -> dict[int, int]:
    return {number: at for number, at in wanted.items() if at > committed.get(number, at)}


async def rewind(
    settings: Settings, changes: Sequence[PartitionRewind], *, keep_windows: bool
) -> None:
    """Set the group's offsets back and, unless ``keep_windows``, begin a new era of its windows.

    In this order: cut off in between, events come again and change nothing, and the rewind can be
    repeated. The other way round, events would be missing.

    Raises:
        GroupHasMembers: a worker is alive or came meanwhile: stop it and rewind again.
        WaitForBroker: the broker does not answer.
    """
    bootstrap = settings.kafka
    await group.must_be_empty(bootstrap, settings.app_id, "rewind")
    offsets = {change.partition: change.to for change in changes}
    await group.set_offsets(bootstrap, settings.app_id, settings.events_topic, offsets)
    if not keep_windows:
        await _mark(settings, changes)
    await group.must_be_empty(bootstrap, settings.app_id, "rewind again: they came meanwhile")


async def _mark(settings: Settings, changes: Sequence[PartitionRewind]) -> None:
    producer = AIOKafkaProducer(**client_options(settings.kafka), acks="all")
    try:
        await producer.start()
        for change in changes:
            key, value = era.encode(era.Mark(change.era + 1, change.to))
            await producer.send_and_wait(
                settings.changelog_topic, value, key=key, partition=change.partition
            )
    except KafkaError as error:
        raise WaitForBroker(
            f"Kafka at {settings.kafka}: {error!r}. Rewind again before a worker starts"
        ) from error
    finally:
        await producer.stop()


async def _windows(settings: Settings, partition: int, to: int) -> tuple[int, int, int]:
    """Return the era of a partition's windows, and how many of them include ``to`` or not."""
    applied: dict[bytes, int] = {}
    now = 0
    async with open_consumer(settings.kafka, settings.changelog_topic, [partition]) as consumer:
        async for record in to_the_end(consumer):
            if era.is_mark(record.key):
                mark = era.decode(record.value)
                now = mark.era
                applied = {key: at for key, at in applied.items() if at < mark.from_offset}
            elif era.of_headers(record.headers) < now:
                continue
            elif record.value is None:
                applied.pop(record.key, None)
            else:
                applied[record.key] = codec.applied_offset(record.value)
    anew = sum(at >= to for at in applied.values())
    return now, anew, len(applied) - anew
