"""What so many users and events a second take, and what gives way first.

Multiplications of what was measured (:mod:`benchmarks.scaling.inputs`) and what is assumed
(:class:`Assumptions`, each with its reason).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.scaling.inputs import Inputs

_MB = 1e6
_MIB = 1 << 20


@dataclass(frozen=True)
class Assumptions:
    """What nobody measured here. Change them before you believe the result."""

    busy_share: float = 0.6
    """Of what a worker does in a burst, on average in the peak hour: the rest is for bursts,
    checkpoints and catching up after a restart."""
    growth: float = 2.0
    """Partitions per worker: their number cannot change later, workers may double."""
    active_share: float = 0.1
    """Of all users, those whose events make up the peak hour."""
    event_bytes: float = 150.0
    """One JSON event in Kafka's log, as benchmarks.workload makes them."""
    replication: int = 3
    broker_write_mb_s: float = 200.0
    """What one broker with network disks writes day and night, replicas included."""
    checkpoint_interval_s: float = 1.0
    """The setting's default."""
    own_text_share: float = 0.05
    """Of the events: searches and reviews, which bring a text with them."""
    new_text_share: float = 0.5
    """Of those texts, the ones no worker has in its cache."""
    tokens_per_text: float = 12.0
    catalogue_items: float = 10e6
    tokens_per_item: float = 30.0
    text_row_bytes: float = 3 * 384 * 4
    """Word, sentence and text vector of 384 dimensions, float32."""
    hot_windows_max: float = 200_000
    """The setting's default."""
    gpu_tokens_per_s: float = 1e6
    """Of MiniLM-L6 on one data-centre GPU: 10.7 million weights in its layers are 21 MFLOP a token,
    so this is 21 TFLOP/s, a tenth of what such a GPU does in half precision. Not measured."""
    restarts_a_day: float = 1.0
    """Of each worker: a deployment."""
    standstill_budget_s: float = 60.0
    """A day, in which a partition may give no update because of others' restarts."""
    restore_budget_s: float = 300.0
    """In which the partitions of a lost worker are to be back without a standby."""


@dataclass(frozen=True)
class Target:
    """Who is to be served."""

    users: float
    events_per_s: float


SIZES = (Target(1e6, 1e4), Target(1e7, 1e5), Target(1e8, 1e6))
"""A tenth, and a tenth of that: what grows with the load, and what does not."""


@dataclass(frozen=True)
class Needed:
    """What a target takes."""

    workers: int
    partitions: int
    worker_cores: float
    encoder_cores: float
    """For users' vectors; texts come on top."""
    text_threads: float
    """CPU threads that embed new texts."""
    gpus: float
    """Instead of those threads."""
    catalogue_text_s: float
    """For one worker to embed the whole catalogue once, on one thread."""
    catalogue_text_bytes: float
    """The catalogue's text vectors, which every worker has on its disk."""
    users_per_worker: float
    users_per_partition: float
    disk_per_worker_bytes: float
    """Windows, as many as somebody's standby, and the catalogue's text vectors."""
    memory_per_worker_bytes: float
    stored_per_event: float
    """Windows that a checkpoint writes for an event: users who act twice in between count once."""
    changelog_bytes_s: float
    updates_bytes_s: float
    events_bytes_s: float
    brokers: int
    restore_s: float
    """Of a worker that is lost with its disk, without a standby."""
    standstill_a_day_s: float
    """Of every partition, because workers of its group restart."""
    groups: int
    """Into which the users are to be divided, so that this stays within the budget."""

    @property
    def broker_bytes_s(self) -> float:
        """What is produced, before replication."""
        return self.changelog_bytes_s + self.updates_bytes_s + self.events_bytes_s


def events_per_worker(inputs: Inputs, assumed: Assumptions) -> float:
    """Return events/s of one worker in the peak hour: its event loop is one core, no more."""
    return assumed.busy_share * inputs.burst_events_per_s


def stored_per_event(rate_per_user: float, interval_s: float) -> float:
    """Return windows stored per event, for users who act at random (Poisson) at that rate.

    >>> round(stored_per_event(0.1, 1.0), 3)
    0.952
    >>> round(stored_per_event(0.1, 10.0), 3)
    0.632
    """
    events = rate_per_user * interval_s
    return -math.expm1(-events) / events


def needed(target: Target, inputs: Inputs, assumed: Assumptions) -> Needed:
    """Compute it all."""
    workers = max(2, math.ceil(target.events_per_s / events_per_worker(inputs, assumed)))
    partitions = math.ceil(workers * assumed.growth / 8) * 8
    rate_per_user = target.events_per_s / (target.users * assumed.active_share)
    stored = stored_per_event(rate_per_user, assumed.checkpoint_interval_s)
    text_tokens_s = (
        target.events_per_s
        * assumed.own_text_share
        * assumed.new_text_share
        * assumed.tokens_per_text
    )
    users_per_worker = target.users / workers
    changelog_bytes_s = target.events_per_s * stored * inputs.changelog_bytes
    updates_bytes_s = target.events_per_s * inputs.update_bytes
    events_bytes_s = target.events_per_s * assumed.event_bytes
    produced = changelog_bytes_s + updates_bytes_s + events_bytes_s
    standstill_s = _standstill_a_day_s(workers, inputs, assumed)
    catalogue_text_bytes = assumed.catalogue_items * assumed.text_row_bytes
    hot = min(users_per_worker, assumed.hot_windows_max)
    return Needed(
        workers=workers,
        partitions=partitions,
        worker_cores=target.events_per_s * inputs.loop_s_per_event / assumed.busy_share,
        encoder_cores=target.events_per_s * inputs.vector_s / assumed.busy_share,
        text_threads=text_tokens_s / inputs.tokens_per_s / assumed.busy_share,
        gpus=text_tokens_s / assumed.gpu_tokens_per_s / assumed.busy_share,
        catalogue_text_s=assumed.catalogue_items * assumed.tokens_per_item / inputs.tokens_per_s,
        users_per_worker=users_per_worker,
        users_per_partition=target.users / partitions,
        catalogue_text_bytes=catalogue_text_bytes,
        disk_per_worker_bytes=2 * users_per_worker * inputs.rocksdb_bytes + catalogue_text_bytes,
        memory_per_worker_bytes=inputs.worker_memory_mib * _MIB + hot * inputs.hot_window_bytes,
        stored_per_event=stored,
        changelog_bytes_s=changelog_bytes_s,
        updates_bytes_s=updates_bytes_s,
        events_bytes_s=events_bytes_s,
        brokers=max(
            assumed.replication,
            math.ceil(produced * assumed.replication / (assumed.broker_write_mb_s * _MB)),
        ),
        restore_s=users_per_worker / inputs.restored_users_per_s,
        standstill_a_day_s=standstill_s,
        groups=max(1, math.ceil(standstill_s / assumed.standstill_budget_s)),
    )


def _standstill_a_day_s(workers: int, inputs: Inputs, assumed: Assumptions) -> float:
    """A worker that leaves and comes stops every partition of its group, its own or not."""
    return workers * assumed.restarts_a_day * (inputs.leave_s + inputs.join_s)


@dataclass(frozen=True)
class Limit:
    """Something that gives way, and at how many events per second."""

    events_per_s: float
    what: str
    then: str


def limits(inputs: Inputs, assumed: Assumptions, users_per_event_s: float) -> list[Limit]:
    """Return what gives way as a stream grows, first things first.

    ``users_per_event_s``: users for every event per second; they grow together.
    """
    rate = events_per_worker(inputs, assumed)
    users = rate * users_per_event_s  # of one worker that is as busy as it should be
    pause_s = inputs.leave_s + inputs.join_s
    group = assumed.standstill_budget_s / (assumed.restarts_a_day * pause_s)
    per_event = assumed.event_bytes + inputs.update_bytes + inputs.changelog_bytes
    found = [
        Limit(
            assumed.hot_windows_max / users_per_event_s,
            "`hot_windows_max`: users of one worker",
            "windows are read from RocksDB, as in the measurement: no change of plan",
        ),
        Limit(rate, "one event loop, one core", "a worker for every so many events per second"),
        Limit(
            group * rate,
            f"one consumer group: {group:.0f} workers restarted once a day stand still for "
            f"{assumed.standstill_budget_s:.0f} s of it",
            "users are divided over several groups with topics of their own, by a hash of the id",
        ),
        Limit(
            assumed.broker_write_mb_s * _MB / per_event,
            f"{assumed.replication} brokers of {assumed.broker_write_mb_s:.0f} MB/s each",
            "more brokers; then longer checkpoints and fewer, smaller updates",
        ),
        Limit(
            10_000 / assumed.growth * rate,
            "`partitions`, 10,000 at most",
            "several groups, which come long before",
        ),
    ]
    if users / inputs.restored_users_per_s > assumed.restore_budget_s:
        found.append(
            Limit(
                assumed.restore_budget_s * inputs.restored_users_per_s / users_per_event_s,
                f"restore of a lost disk in {assumed.restore_budget_s:.0f} s",
                "`standby_replicas = 1`, or smaller workers",
            )
        )
    return sorted(found, key=lambda limit: limit.events_per_s)
