"""A small world to train in: items in clusters, users who walk within one and now and then leave.

What comes next is told by the cluster of the last items, which their texts name, and by a fixed
order of items within a cluster, which no text tells.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.interface import Float32
from state.event import Event, EventType

_WORDS = ("heat", "toy", "winter", "running", "children", "comedy", "lazy", "boots")
_START_MS = 1_700_000_000_000


def clustered(
    users: int = 120,
    clusters: int = 6,
    items_each: int = 12,
    events_each: int = 14,
    seed: int = 0,
    searches: bool = False,
    with_images: bool = False,
) -> Interactions:
    """Return the events in time order. The same arguments give the same world."""
    events, catalogue = world(users, clusters, items_each, events_each, seed, searches)
    media = images(catalogue) if with_images else {}
    return in_time_order(from_events(events, catalogue, media=media))


def world(
    users: int = 120,
    clusters: int = 6,
    items_each: int = 12,
    events_each: int = 14,
    seed: int = 0,
    searches: bool = False,
) -> tuple[list[Event], dict[str, str]]:
    """Return the events, one user's after the other's, and the catalogue's texts by item id."""
    generator = np.random.default_rng(seed)
    catalogue = {
        f"item-{cluster}-{place}": f"{_WORDS[cluster]} {_WORDS[cluster]} story {place}"
        for cluster in range(clusters)
        for place in range(items_each)
    }
    events: list[Event] = []
    for user in range(users):
        events += _walk(user, generator, clusters, items_each, events_each, searches)
    return events, catalogue


def _walk(
    user: int,
    generator: np.random.Generator,
    clusters: int,
    items_each: int,
    events_each: int,
    searches: bool,
) -> list[Event]:
    cluster, place = int(generator.integers(clusters)), int(generator.integers(items_each))
    time_ms = _START_MS + int(generator.integers(10**9))
    events = []
    kinds = (EventType.VIEW, EventType.CLICK, EventType.PURCHASE)
    for number in range(events_each):
        time_ms += int(generator.choice([2_000, 600_000, 7_200_000]))
        events.append(
            Event(
                event_id=f"{user}-{number}",
                user_id=f"user-{user}",
                type=kinds[(cluster + place) % 3],
                item_id=f"item-{cluster}-{place}",
                time_ms=time_ms,
                dwell_ms=1_000 * (1 + place) if number % 4 else None,
            )
        )
        if searches and number % 5 == 3:
            asked = Event(f"{user}-{number}-s", f"user-{user}", EventType.SEARCH)
            told = {"text": f"{_WORDS[cluster]} again", "time_ms": time_ms + 500}
            events.append(Event(asked.event_id, asked.user_id, asked.type, None, **told))
        place = (place + int(generator.integers(1, 3))) % items_each
        if generator.random() < 0.1:
            cluster = int(generator.integers(clusters))
    return events


def images(catalogue: dict[str, str], numbers: int = 10, seed: int = 0) -> dict[str, Float32]:
    """Return vectors [numbers] as an image model might give them: near to each other within a
    cluster. Every sixth item brings none."""
    generator = np.random.default_rng(seed)
    centres: dict[str, Float32] = {}
    found = {}
    for place, item_id in enumerate(catalogue):
        cluster = item_id.split("-")[1]
        if cluster not in centres:
            centres[cluster] = generator.normal(size=numbers).astype(np.float32)
        vector = centres[cluster] + generator.normal(scale=0.2, size=numbers).astype(np.float32)
        if place % 6:
            found[item_id] = vector.astype(np.float32)
    return found


def item_lines(catalogue: dict[str, str], media: dict[str, Float32] | None = None) -> list[bytes]:
    """Return the items as records of their topic."""
    lines = []
    for item_id, text in catalogue.items():
        item: dict[str, object] = {"item_id": item_id, "text": text}
        if media and item_id in media:
            item["media_vector"] = media[item_id].tolist()
        lines.append(msgspec.json.encode(item))
    return lines


def write_files(
    folder: Path,
    events: list[Event],
    catalogue: dict[str, str],
    media: dict[str, Float32] | None = None,
) -> tuple[Path, Path]:
    """Write events and items as JSON Lines; return both files."""
    encode = msgspec.json.encode
    items = item_lines(catalogue, media)
    told = [
        encode({k: v for k, v in msgspec.to_builtins(event).items() if v is not None})
        for event in events
    ]
    for name, lines in (("events.jsonl", told), ("items.jsonl", items)):
        (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / "events.jsonl", folder / "items.jsonl"
