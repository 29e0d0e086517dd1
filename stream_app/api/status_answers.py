"""What the API says of workers, as types."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from stream_app.api.answers import TimeMs


class ModelStatus(Struct, frozen=True):
    """The model that makes the vectors here."""

    model_id: str
    dimensions: int
    backend: str
    device: str
    weights: Annotated[dict[str, float], Meta(description="Share of each granularity.")]


class Rates(Struct, frozen=True):
    """The last minute, oldest first, one number per interval."""

    interval_s: float
    events_per_s: list[float]
    updates_per_s: list[float]
    dead_letters_per_s: list[float]


class PartitionStatus(Struct, frozen=True):
    """A partition held."""

    partition: int
    folded_offset: int
    end_offset: Annotated[int | None, Meta(description="null: not known yet.")]
    lag: Annotated[int, Meta(description="Records between the two.")]
    users_hot: int
    dirty: int
    in_flight: int


class StageLatency(Struct, frozen=True):
    """How long a stage of an event's way takes."""

    stage: str
    count: int
    p50_ms: float
    p99_ms: float


class LastDeadLetter(Struct, frozen=True):
    """One record that was no event."""

    time_ms: TimeMs
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int


class DeadLetters(Struct, frozen=True):
    """Those of this worker since its start."""

    total: int
    by_reason: dict[str, int]
    last: Annotated[list[LastDeadLetter], Meta(description="The newest first.")]


class WorkerPlace(Struct, frozen=True):
    """A worker of the group and what it was given."""

    url: Annotated[str | None, Meta(description="null: without the API.")]
    partitions: list[int]
    is_this: bool


class Recovery(Struct, frozen=True):
    """Windows being restored from the changelog."""

    active: bool
    since_ms: int | None
    remaining: Annotated[dict[str, int], Meta(description="Changelog records by partition.")]


class StatusAnswer(Struct, frozen=True):
    """A worker, by its own account."""

    worker: str
    state: str
    version: str
    time_ms: TimeMs
    started_ms: TimeMs
    model: ModelStatus | None
    counts: Annotated[dict[str, int], Meta(description="Totals since the start.")]
    rates: Rates
    partitions: list[PartitionStatus]
    lag: int
    latency: list[StageLatency]
    dead_letters: DeadLetters
    workers: list[WorkerPlace]
    recovery: Recovery
    users_hot: int
    users_held: Annotated[int, Meta(description="Whose vectors /v1/audience looks through.")]
    items_known: int
    items_held: Annotated[int, Meta(description="Whose vectors neighbours are found among.")]
    loop_lag_ms_p99: float
    memory_bytes: int


class WorkerStatus(Struct, frozen=True):
    """A worker's place and its status, or why there is none."""

    url: str | None
    partitions: list[int]
    is_this: bool
    status: StatusAnswer | None
    error: str | None


class WorkersAnswer(Struct, frozen=True):
    """Every worker of the group."""

    workers: list[WorkerStatus]
