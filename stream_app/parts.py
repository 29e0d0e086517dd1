"""The parts of a worker that need to know the model, made and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

from encoders.interface import EncoderInfo
from stream_app import topics
from stream_app.burials import Burials
from stream_app.catalogue import Catalogue
from stream_app.changelog import Changelog
from stream_app.checkpoint import Checkpoints
from stream_app.delivery import APPLIED_OFFSET_HEADER
from stream_app.encoder_process import EncoderProcess
from stream_app.encoding import WindowEncoder
from stream_app.item_vectors import ItemVectors
from stream_app.lease import Lease
from stream_app.meters import Meters
from stream_app.owned_log import OwnedLog
from stream_app.partition import Partition
from stream_app.producer import BatchProducer
from stream_app.rounds import Rounds
from stream_app.settings import Settings
from stream_app.status import Counts
from stream_app.sweep import Sweep
from stream_app.updates import UpdateEncoder


class Parts(NamedTuple):
    """What does the work between a RecordBatch folded and its offsets committed."""

    catalogue: Catalogue
    encoder: WindowEncoder
    lease: Lease
    updates_log: OwnedLog
    rounds: Rounds
    changelog: Changelog
    checkpoints: Checkpoints
    sweep: Sweep
    item_vectors: ItemVectors


def join(
    settings: Settings,
    info: EncoderInfo,
    counts: Counts,
    meters: Meters,
    *,
    ours: Callable[[], Iterable[Partition]],
    producer: BatchProducer,
    burials: Burials,
    encoder_process: EncoderProcess,
    renewed_at: Callable[[], float],
    on_items_changed: Callable[[Sequence[str]], None],
) -> Parts:
    """Return the parts, none of them started.

    ``ours``: the partitions held. ``renewed_at``: of the last heartbeat that was confirmed.
    """
    catalogue = Catalogue(
        settings.datadir / "catalogue",
        settings.items_topic,
        settings.kafka,
        counts,
        max_text_chars=settings.max_text_chars,
        isolation_level=settings.isolation_level,
        changed=on_items_changed,
        bury=burials.bury_items,
    )
    encoder = WindowEncoder(
        encoder_process,
        catalogue,
        counts,
        rows=settings.text_cache_rows,
        with_granularities=settings.publish_granularities,
        with_several=settings.publish_interests,
        bury=burials.bury_alone,
    )
    lease = Lease(renewed_at, settings.session_timeout_s)
    updates_log = OwnedLog(settings.updates_topic, settings.kafka, counts, _update_applied)
    rounds = Rounds(
        ours,
        encoder,
        UpdateEncoder(
            settings.update_format,
            info.model_id,
            settings.events_topic,
            info.granularities,
            info.weights,
            info.vectors,
        ),
        producer,
        lease,
        counts,
        meters,
        updates_log,
        source_topic=settings.events_topic,
        max_users=settings.micro_batch_max_users,
        linger_ms=settings.micro_batch_linger_ms,
    )
    rounds.bury = burials.bury
    changelog = Changelog(settings.changelog_topic, producer, counts, settings.kafka)
    checkpoints = Checkpoints(
        ours, changelog, lease, counts, meters, interval_ms=settings.checkpoint_interval_ms
    )
    sweep = Sweep(
        ours,
        rounds.want,
        checkpoints,
        lambda: topics.committed(settings),
        counts,
        sweep_ms=settings.window_policy().sweep_ms,
        dirty_users_max=settings.dirty_users_max,
    )
    item_vectors = ItemVectors(
        catalogue,
        encoder,
        producer,
        ours,
        lease,
        counts,
        topic=settings.item_vectors_topic,
        model_id=info.model_id,
        source_partitions=settings.partitions,
    )
    return Parts(
        catalogue, encoder, lease, updates_log, rounds, changelog, checkpoints, sweep, item_vectors
    )


def _update_applied(_: Partition, record: ConsumerRecord) -> int:
    return int(dict(record.headers).get(APPLIED_OFFSET_HEADER, -1))
