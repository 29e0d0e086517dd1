"""What the API takes and gives, as types: JSON, checks and OpenAPI schemas come of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MAX_TEXTS = 64
"""Of one request to embed: of titles 50 ms of a CPU core, of full length two seconds, in slices."""

Share = Annotated[float, Meta(description="0 to 1.")]
Cosine = Annotated[float, Meta(description="-1 to 1; 0 where one of the two is all zero.")]
TimeMs = Annotated[int, Meta(description="Milliseconds since the epoch, UTC.")]


class Problem(Struct, frozen=True):
    """What every answer is that is no 200."""

    error: str
    """One of a fixed few slugs."""
    message: str


class Granularity(Struct, frozen=True):
    """One granularity's part in a vector."""

    name: str
    weight: Share
    similarity: Cosine


class HeldEvent(Struct, frozen=True):
    """An event of a window, and what it does to the vector."""

    event_id: str
    type: str
    time_ms: TimeMs
    item_id: str | None
    text: Annotated[str | None, Meta(description="The event's own, else the item's; cut.")]
    session_id: str | None
    dwell_ms: int | None
    known: Annotated[bool, Meta(description="Whether there is a text; else it adds nothing.")]
    contribution: Annotated[Share, Meta(description="Share of this turn in the sum of all.")]
    turn: Annotated[float, Meta(description="1 - cos(vector, vector without this event).")]
    similarity: Annotated[Cosine, Meta(description="Of the event's own text and the vector.")]


class Provenance(Struct, frozen=True):
    """What a vector was made of."""

    model_id: str
    topic: str
    partition: int
    applied_offset: Annotated[int, Meta(description="The user's records up to it are in.")]
    folded_offset: Annotated[int, Meta(description="The partition's records up to it are read.")]
    event_ids: list[str]
    worker: str


class InterestAnswer(Struct, frozen=True):
    """A user's vector as of now, and why it is so."""

    user_id: str
    time_ms: Annotated[int, Meta(description="Of the newest event.")]
    vector: list[float]
    granularities: list[Granularity]
    counts: Annotated[dict[str, int], Meta(description="All events there ever were, by type.")]
    events: Annotated[list[HeldEvent], Meta(description="The window, oldest first.")]
    provenance: Provenance


class NearItem(Struct, frozen=True):
    """An item by its score."""

    item_id: str
    score: float
    text: str | None
    in_window: bool


class NeighboursAnswer(Struct, frozen=True):
    """The items nearest to a user."""

    user_id: str
    model_id: str
    applied_offset: int
    items: list[NearItem]
    items_held: int
    items_evicted: Annotated[int, Meta(description="Beyond api_items_max.")]
    complete: Annotated[bool, Meta(description="Whether the item vectors are all read.")]
    worker: str


class Point(Struct, frozen=True):
    """The vector after an event, on the plane."""

    event_id: str
    type: str
    time_ms: TimeMs
    item_id: str | None
    text: str | None
    x: float
    y: float
    turn: Annotated[float, Meta(description="1 - cos to the point before.")]


class Landmark(Struct, frozen=True):
    """An item near the last point, on the same plane."""

    item_id: str
    text: str | None
    score: float
    x: float
    y: float


class HistoryAnswer(Struct, frozen=True):
    """How a user's vector moved, event by event."""

    user_id: str
    model_id: str
    applied_offset: int
    points: list[Point]
    landmarks: list[Landmark]
    explained: Annotated[list[float], Meta(description="Share of the movement along x and y.")]
    worker: str


class AudienceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A text that wants its users."""

    text: Annotated[str, Meta(min_length=1)]
    k: Annotated[float, Meta(ge=1, multiple_of=1, description="How many.")] = 10
    """To JSON 10.0 is a whole number, too."""


class NearUser(Struct, frozen=True):
    """A user by the score."""

    user_id: str
    score: float
    applied_offset: int


class AudienceAnswer(Struct, frozen=True):
    """The users of this worker's share nearest to a text."""

    model_id: str
    partitions: list[int]
    users: list[NearUser]
    users_held: int
    users_evicted: Annotated[int, Meta(description="Beyond api_users_max.")]
    complete: Annotated[bool, Meta(description="Whether earlier updates are all read.")]
    worker: str


class EmbedRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts that want vectors."""

    texts: Annotated[
        list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=MAX_TEXTS)
    ]


class EmbedAnswer(Struct, frozen=True):
    """Vectors in the space of the items, in the order of the texts."""

    model_id: str
    dimensions: int
    vectors: Annotated[list[list[float] | None], Meta(description="null: the model fails on it.")]
