"""The topics of the worker: what they are called, how they are cleaned up, whether they fit.

Events, changelog and updates share one partition count, for a user's events, window and vector
must lie in the same partition number. The other topics may have any count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.partitioner import murmur2

from stream_app.errors import FixSettings
from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import may_not_create, unanswered
from stream_app.settings import Settings

_DELETE = {"cleanup.policy": "delete"}
_COMPACT = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 << 20),
    "segment.ms": str(3_600_000),
    "max.compaction.lag.ms": str(86_400_000),
}
"""Kafka never compacts the segment it writes to. With its defaults, a gigabyte or a week, a topic
of eight partitions would hold eight gigabytes of the past before the first of it goes. An hour is
for quiet topics, and after a day a deleted user's records go however few others there are."""
TOMBSTONES_MS = 7 * 86_400_000
"""A worker that comes back with databases of its own reads the changelog and the items topic from
where it left off; away for longer than tombstones are kept, it would still have what was deleted
meanwhile. So it uses no database older than half of this (``delivery.window_table``,
``catalogue``) and reads from the beginning."""
_KEPT_TOMBSTONES = {"delete.retention.ms": str(TOMBSTONES_MS)}

_COMPACTION_LAG_SESSIONS = 6


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner gives a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def _changelog_configs(settings: Settings) -> dict[str, str]:
    """Return the changelog's topic settings.

    A worker frozen past its session may append an old window behind the new owner's. The owner
    sees that by the base offsets of its acknowledgements and repairs it, and a restore compares
    applied offsets; both need the newer record to be there still for a few session timeouts.
    """
    lag_ms = int(settings.session_timeout_s * 1000) * _COMPACTION_LAG_SESSIONS
    return {
        **_COMPACT,
        "min.compaction.lag.ms": str(lag_ms),
        **_KEPT_TOMBSTONES,
    }


@dataclass(frozen=True)
class TopicSpec:
    """One topic as it should be."""

    name: str
    partitions: int
    replication_factor: int
    copartitioned: bool
    """Whether a user's records must lie in the same partition number as their events."""
    configs: dict[str, str] = field(default_factory=dict)


def topic_specs(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return every topic the worker reads or writes, in the order of an event's way."""
    return tuple(
        TopicSpec(name, settings.partitions, settings.replication_factor, by_user, dict(configs))
        for name, by_user, configs in (
            (settings.events_topic, True, _DELETE),
            (settings.items_topic, False, _COMPACT | _KEPT_TOMBSTONES),
            (settings.changelog_topic, True, _changelog_configs(settings)),
            (settings.updates_topic, True, _COMPACT),
            (settings.item_vectors_topic, False, _COMPACT),
            (settings.dead_letters_topic, False, _DELETE),
        )
    )


async def create(settings: Settings) -> list[str]:
    """Create the topics that are missing, check those that are there; return the new ones' names.

    Raises:
        FixSettings: the broker refuses a topic, or one that exists has the wrong partition count.
        KafkaRefuses: our user may not create topics, and some are missing.
        WaitForBroker: no broker answers.
    """
    specs = topic_specs(settings)
    async with open_admin(settings.kafka) as admin:
        present = await _partition_counts(admin)
        check_counts(specs, {**_wanted(specs), **present})
        missing = [spec for spec in specs if spec.name not in present]
        if not missing:
            return []
        response = await admin.create_topics(
            [
                NewTopic(s.name, s.partitions, s.replication_factor, topic_configs=s.configs)
                for s in missing
            ]
        )
    created, forbidden = [], []
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error in {TopicAuthorizationFailedError, ClusterAuthorizationFailedError}:
            forbidden.append(name)
        elif error is not TopicAlreadyExistsError:  # another worker may create them, too
            raise FixSettings(f"topic {name} cannot be created: {error.__name__} {message}")
    if forbidden:
        raise may_not_create(forbidden, settings.kafka)
    return created


async def check(settings: Settings) -> dict[str, int]:
    """Return the partition count of every topic, if all are there and fit together.

    Raises:
        FixSettings: a topic is missing or has a wrong partition count (it says both).
        WaitForBroker: no broker answers.
    """
    specs = topic_specs(settings)
    async with open_admin(settings.kafka) as admin:
        present = await _partition_counts(admin)
        await _must_be_shown(admin, [spec.name for spec in specs if spec.name not in present])
    check_counts(specs, present)
    return {spec.name: present[spec.name] for spec in specs}


async def partition_count(bootstrap_servers: Brokers, topic: str) -> int:
    """Return how many partitions a topic has.

    Raises:
        FixSettings: the topic does not exist.
        WaitForBroker: no broker answers.
    """
    async with open_admin(bootstrap_servers) as admin:
        present = await _partition_counts(admin)
        await _must_be_shown(admin, [] if topic in present else [topic])
    if topic not in present:
        raise FixSettings(f"no topic {topic}; `interest-stream topics create` makes it")
    return present[topic]


async def committed(settings: Settings) -> dict[int, int]:
    """Return the worker group's committed offset of each events partition that has one.

    Raises:
        WaitForBroker: no broker answers.
    """
    async with open_admin(settings.kafka) as admin:
        offsets = await admin.list_consumer_group_offsets(settings.app_id)
    return {
        tp.partition: found.offset
        for tp, found in offsets.items()
        if tp.topic == settings.events_topic and found.offset >= 0
    }


def check_counts(specs: Sequence[TopicSpec], present: dict[str, int]) -> None:
    """Refuse partition counts that differ from ``specs``, or topics that are not in ``present``.

    Raises:
        FixSettings: one line with every topic that is wrong and both numbers.
    """
    missing = [spec.name for spec in specs if spec.name not in present]
    if missing:
        raise FixSettings(
            f"missing topics: {', '.join(missing)}; `interest-stream topics create` makes them"
        )
    wrong = [
        f"{spec.name} has {present[spec.name]}, expected {spec.partitions}"
        for spec in specs
        if spec.copartitioned and present[spec.name] != spec.partitions
    ]
    if wrong:
        raise FixSettings(
            f"partition counts differ: {'; '.join(wrong)} (setting partitions; a user's events, "
            "window and updates must share a partition number)"
        )


def _wanted(specs: Sequence[TopicSpec]) -> dict[str, int]:
    return {spec.name: spec.partitions for spec in specs}


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    found = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in found}


async def _must_be_shown(admin: AIOKafkaAdminClient, missing: Sequence[str]) -> None:
    """Tell topics that do not exist from those that an ACL hides from us.

    Raises:
        TopicAuthorizationFailedError: the topics that we may not even ask for.
    """
    if not missing:
        return
    found = await admin.describe_topics(list(missing))
    hidden = {
        topic["topic"]
        for topic in found
        if for_code(topic["error_code"]) is TopicAuthorizationFailedError
    }
    if hidden:
        raise TopicAuthorizationFailedError(hidden)


@asynccontextmanager
async def open_admin(bootstrap_servers: Brokers) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield an admin client.

    Raises:
        WaitForBroker: no broker answers, or it stops answering.
        KafkaRefuses: it does not accept our credentials, or we its certificate.
    """
    admin = AIOKafkaAdminClient(**client_options(bootstrap_servers), request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise await unanswered(error, bootstrap_servers) from error
    finally:
        await admin.close()
