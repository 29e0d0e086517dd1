"""What was published, recomputed from the log of events and compared: ``replay --verify``.

Not by a worker: a worker that has a fault would have it twice. Each partition is read in order with
a plain consumer and folded; what is shared with the worker is the fold, the codec and the encoder,
whose results are what is to be compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from encoders.interface import EncoderInfo
from stream_app import topics
from stream_app.catalogue import Catalogue
from stream_app.dead_letters import DeadLetter
from stream_app.encoder_process import EncoderProcess
from stream_app.encoding import WindowEncoder
from stream_app.replaying.positions import EARLIEST, LATEST, position
from stream_app.replaying.reach import SourceLog, read_log
from stream_app.replaying.verification_examined import LISTED_MAX, Examiner, Logs
from stream_app.replaying.verification_published import PublishedPartition
from stream_app.replaying.verification_result import Verified
from stream_app.replaying.verification_vectors import VectorCheck
from stream_app.replaying.verification_walk import Walk
from stream_app.settings import Settings
from stream_app.status import Counts
from stream_app.topic_scan import open_consumer

_POLL_MS = 500
_FETCH_BYTES = 8 << 20
"""Of one partition at once: fetches of the default 1 MiB hold 7,000 events."""

Show = Callable[[int, int], None]
"""Called with how many records are read, and of how many."""


@dataclass(frozen=True)
class Request:
    """What to verify."""

    start: str = EARLIEST
    """Point of the log: what was published for earlier events is not compared, only folded."""
    end: str = LATEST
    users: tuple[str, ...] | None = None
    tolerance: float = 0.0
    """By how much a number of a vector may differ; 0: bit for bit."""


async def verify(settings: Settings, request: Request, show: Show) -> Verified:
    """Recompute what the live worker of these settings published, and return how it compares.

    Up to what its group has committed; it may go on meanwhile.

    Raises:
        FixSettings: a topic is missing, a point of the log or the model is wrong.
        WaitForBroker: the broker does not answer.
    """
    began = time.perf_counter()
    await topics.check(settings)
    # First: everything committed by now is published and stored by now.
    committed = await topics.committed(settings)
    async with (
        open_consumer(
            settings.kafka,
            settings.events_topic,
            isolation_level=settings.isolation_level,
        ) as consumer,
        _encoder(settings) as (encoder, info),
    ):
        log = await read_log(settings, consumer)
        spans = await _spans(log, request, committed)
        verified = Verified(model_id=info.model_id, tolerance=request.tolerance)
        verification = _Verification(settings, request, verified, encoder, info)
        await verification.run(log, spans, show)
    verified.seconds = round(time.perf_counter() - began, 2)
    verified.events_per_s = round(verified.events / max(verification.seconds, 1e-9))
    return verified


@dataclass(frozen=True)
class _Span:
    """Of one partition: where the log begins, and what of it is compared."""

    begin: int
    start: int
    end: int


async def _spans(log: SourceLog, request: Request, committed: dict[int, int]) -> dict[int, _Span]:
    starts = await log.offsets(position(request.start))
    ends = {**log.ends, **await log.offsets(position(request.end))}
    return {
        number: _Span(log.begins[number], start, min(ends[number], committed.get(number, 0)))
        for number, start in starts.items()
    }


@asynccontextmanager
async def _encoder(settings: Settings) -> AsyncIterator[tuple[WindowEncoder, EncoderInfo]]:
    """Yield an encoder of the live settings' model that has the catalogue, and nothing cached.

    A vector from the worker's own cache on disk would prove nothing; besides, the worker has it.
    """
    counts = Counts()
    process = EncoderProcess(
        replace(settings.encoder_config(), cache_dir=""),
        start_timeout_s=settings.encoder_start_timeout_s,
        request_timeout_s=settings.encode_timeout_s,
    )
    with tempfile.TemporaryDirectory(prefix="interest-verify-") as folder:
        catalogue = Catalogue(
            Path(folder) / "catalogue",
            settings.items_topic,
            settings.kafka,
            counts,
            max_text_chars=settings.max_text_chars,
            isolation_level=settings.isolation_level,
            changed=lambda _: None,
            bury=_buried_before,
        )
        try:
            info = await process.start()
            await catalogue.start()
            yield (
                WindowEncoder(
                    process,
                    catalogue,
                    counts,
                    rows=settings.text_cache_rows,
                    with_granularities=settings.publish_granularities,
                    with_several=settings.publish_interests,
                    bury=lambda _: None,
                ),
                info,
            )
        finally:
            await catalogue.stop()
            await process.stop()


class _Verification:
    """The partitions, one after the other: what is held in memory is of one of them."""

    def __init__(
        self,
        settings: Settings,
        request: Request,
        verified: Verified,
        encoder: WindowEncoder,
        info: EncoderInfo,
    ) -> None:
        self._settings = settings
        self._verified = verified
        self._info = info
        self._vectors = VectorCheck(
            encoder,
            info,
            most_users=settings.micro_batch_max_users,
            # With a tolerance each has to be looked at.
            most_kept=None if request.tolerance else LISTED_MAX,
        )
        self._examiner = Examiner(settings, verified)
        self._users = (
            None if request.users is None else frozenset(user.encode() for user in request.users)
        )
        pseudonyms = settings.pseudonyms()
        self._keys = (
            self._users
            if self._users is None or pseudonyms is None
            else frozenset(map(pseudonyms.of_key, self._users))
        )
        self._done = 0
        self._total = 0
        self._show: Show = lambda done, total: None
        self.seconds = 0.0
        """Without the start of the encoder."""

    async def run(self, log: SourceLog, spans: dict[int, _Span], show: Show) -> None:
        """Verify what there is of every partition."""
        settings = self._settings
        began = time.perf_counter()
        self._show = show
        numbers = [number for number in sorted(spans) if self._concerns(number, len(log.ends))]
        self._total = sum(spans[number].end - spans[number].begin for number in numbers)
        async with (
            _reader(settings, settings.events_topic) as events,
            _reader(settings, settings.changelog_topic) as changelog,
            _reader(settings, settings.updates_topic) as updates,
        ):
            for reader in (changelog, updates):
                self._total += await _records(reader, numbers)
            for number in numbers:
                await self._partition(number, spans[number], events, changelog, updates)
        self._verified.not_examined += self._vectors.more_others
        self._show(self._total, self._total)
        self.seconds = time.perf_counter() - began

    async def _partition(
        self,
        number: int,
        span: _Span,
        events: AIOKafkaConsumer,
        changelog: AIOKafkaConsumer,
        updates: AIOKafkaConsumer,
    ) -> None:
        settings = self._settings
        published = PublishedPartition(span.begin)
        for reader, topic, vectors in (
            (changelog, settings.changelog_topic, False),
            (updates, settings.updates_topic, True),
        ):
            await _assign(reader, topic, number)
            await published.read(reader, self._wanted, self._moved, vectors=vectors)
        if span.begin:
            self._verified.notes.append(
                f"partition {number}: the log begins at offset {span.begin}; a user's windows can "
                "be compared from the first one on that the changelog still holds"
            )
        walk = Walk(
            published,
            self._verified,
            limits=settings.event_limits(),
            policy=settings.window_policy(),
            model_id=self._info.model_id,
            start=span.start,
            end=span.end,
            wanted=self._wanted,
        )
        await _assign(events, settings.events_topic, number)
        await self._fold(walk, events, span)
        walk.finish()
        await self._vectors.put(walk.to_encode)
        await self._vectors.settle()
        logs = Logs(changelog, updates)
        await self._examiner.examine(published, walk.suspects, self._vectors.others, logs)
        self._vectors.others.clear()

    async def _fold(self, walk: Walk, events: AIOKafkaConsumer, span: _Span) -> None:
        (tp,) = events.assignment()
        position = span.begin
        while position < span.end:
            fetched = (await events.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ())
            walk.take([record for record in fetched if record.offset < span.end])
            await self._vectors.put(walk.to_encode)
            walk.to_encode.clear()
            # By position: transaction markers and compaction leave gaps at the end.
            before, position = position, min(await events.position(tp), span.end)
            self._moved(position - before)

    def _concerns(self, number: int, partitions: int) -> bool:
        users = self._users
        return users is None or any(
            topics.partition_of(user, partitions) == number for user in users
        )

    def _wanted(self, key: bytes) -> bool:
        return self._keys is None or key in self._keys

    def _moved(self, count: int) -> None:
        self._done += count
        self._show(min(self._done, self._total), self._total)


@asynccontextmanager
async def _reader(settings: Settings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    async with open_consumer(
        settings.kafka,
        topic,
        fetch_bytes=_FETCH_BYTES,
        isolation_level=settings.isolation_level,  # as the worker reads the events
    ) as consumer:
        yield consumer


async def _buried_before(_: Sequence[DeadLetter]) -> None:
    """The worker has done it."""


async def _assign(consumer: AIOKafkaConsumer, topic: str, number: int) -> None:
    tp = TopicPartition(topic, number)
    consumer.assign([tp])
    await consumer.seek_to_beginning(tp)


async def _records(consumer: AIOKafkaConsumer, numbers: Sequence[int]) -> int:
    """Return how many records the partitions have, gaps counted."""
    tps = [tp for tp in consumer.assignment() if tp.partition in numbers]
    begins = await consumer.beginning_offsets(tps)
    return sum(end - begins[tp] for tp, end in (await consumer.end_offsets(tps)).items())
