"""What must hold after every run, whatever was done to the workers in between."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import rocksdict

from state import codec
from state.event import WINDOW_TYPES
from state.window import Window
from tests.harness.background import CommitSample
from tests.harness.client import Record
from tests.harness.reference import FIELDS, Reference, User

Plain = dict[str, Any]

NOT_OF_EVENTS = frozenset(
    {b"invalid-item", b"media-not-usable", b"text-not-encodable", b"encoder-failed"}
)
"""Reasons of dead letters that are no records of the events topic."""


def last_per_key(records: Iterable[Record]) -> dict[str, Record]:
    """Return what compaction leaves, tombstones included."""
    return {(record.key or b"").decode(): record for record in records}


def plain_window(window: Window) -> Plain:
    """Return a stored window as the reference says it."""
    held = [
        {name: _plain(getattr(event, name)) for name in FIELDS} for event in window.events("any")
    ]
    counts = {
        kind.value: count for kind, count in zip(WINDOW_TYPES, window.counts, strict=True) if count
    }
    return {"held": held, "applied_offset": window.applied_offset, "counts": counts}


def plain_user(user: User) -> Plain:
    """Return the reference's user in the same form."""
    held = [{name: event.get(name) for name in FIELDS} for event in user.held]
    return {"held": held, "applied_offset": user.applied_offset, "counts": dict(user.counts)}


def windows_in(changelog: Iterable[Record]) -> dict[str, Plain]:
    """Return the windows that the changelog, read to its end, stands for."""
    return {
        user: plain_window(codec.decode(record.value))
        for user, record in last_per_key(changelog).items()
        if record.value is not None and not user.startswith("\0")  # a rewind's mark
    }


def windows_on_disk(held: Mapping[Path, Collection[int]]) -> dict[str, Plain]:
    """Return the windows in the RocksDB databases of stopped workers, by plain rocksdict.

    ``held``: datadir -> the partitions that were its worker's own at the end; what it has of
    others is from an earlier time, or a standby's.
    """
    found: dict[str, Plain] = {}
    for datadir, partitions in held.items():
        for path in sorted(datadir.glob("**/windows-*.rocksdb")):
            number = path.stem.rpartition("-")[2]
            if number.isdigit() and int(number) in partitions:
                found |= _windows_of(path)
    return found


def item_texts(items: Iterable[Record]) -> dict[str, str]:
    """Return item id -> text, the last record of each item deciding."""
    return {
        item: json.loads(record.value)["text"]
        for item, record in last_per_key(items).items()
        if record.value is not None
    }


def assert_last_updates(
    reference: Reference, updates: Iterable[Record], vectors: Mapping[str, list[float]]
) -> None:
    """The last update of each user says what its window says; nobody else has one."""
    last = last_per_key(updates)
    alive = {user for user, record in last.items() if record.value is not None}
    assert alive == set(reference.users)
    wrong = {
        name: (wanted, found)
        for name, user in reference.users.items()
        if (wanted := _wanted_update(reference, name, user, vectors[name]))
        != (found := _found_update(last[name]))
    }
    assert not wrong, f"{len(wrong)} last updates differ, as wanted and found: {wrong}"


def _wanted_update(reference: Reference, name: str, user: User, vector: list[float]) -> Plain:
    return {
        "user_id": name,
        "vector": vector,
        "time_ms": user.held[-1]["time_ms"],
        "partition": reference.partition[name],
        "applied_offset": user.applied_offset,
        "event_count": len(user.held),
    }


def _found_update(record: Record) -> Plain:
    """Return the same fields of an update, whose headers and place must agree with it."""
    update = decode_update(record)
    assert record.partition == update["partition"]
    assert record.headers["applied_offset"] == b"%d" % update["applied_offset"]
    assert record.headers["model_id"].decode() == update["model_id"]
    names = ("user_id", "vector", "time_ms", "partition", "applied_offset", "event_count")
    return {name: update[name] for name in names}


def users_of_model(updates: Iterable[Record], model_id: str) -> set[str]:
    """Return the users whose last update is of a model; header and value must say the same."""
    found = set()
    for user, record in last_per_key(updates).items():
        if record.value is not None and decode_update(record)["model_id"] == model_id:
            assert record.headers["model_id"].decode() == model_id
            found.add(user)
    return found


def assert_published_in_order(updates: Iterable[Record]) -> None:
    """Per user, applied offsets never run backwards; without a fault not even in the raw topic."""
    newest: dict[bytes | None, int] = {}
    for record in updates:
        offset = int(record.headers["applied_offset"])
        assert offset >= newest.get(record.key, -1), f"{record.key!r} ran backwards to {offset}"
        newest[record.key] = offset


def outdated(records: Iterable[Record]) -> dict[str, tuple[int, int]]:
    """Return user -> (newest applied offset, last record's) where the two differ."""
    newest: dict[str, int] = {}
    last: dict[str, int] = {}
    for record in records:
        user = (record.key or b"").decode()
        last[user] = _applied_offset(record)
        newest[user] = max(newest.get(user, -1), last[user])
    return {user: (newest[user], at) for user, at in last.items() if at < newest[user]}


def stale(records: Iterable[Record]) -> int:
    """Return how many records are older than an earlier one of the same user."""
    newest: dict[bytes | None, int] = {}
    count = 0
    for record in records:
        offset = _applied_offset(record)
        count += offset < newest.get(record.key, -1)
        newest[record.key] = max(newest.get(record.key, -1), offset)
    return count


def decode_update(record: Record) -> Plain:
    """Return a JSON update, its numbers as the float32 values they stand for."""
    assert record.value is not None
    assert record.headers["content-type"] == b"application/json"
    update: Plain = json.loads(record.value)
    update["vector"] = as_float32(update["vector"])
    return update


def as_float32(vector: Sequence[float] | str) -> list[float]:
    """Return each number rounded to float32: a JSON text names a float32 in its own way.

    Of float16 vectors the text is base64 of their bytes.
    """
    if isinstance(vector, str):
        vector = np.frombuffer(b64decode(vector), "<f2").tolist()
    rounded: list[float] = np.asarray(vector, np.float32).tolist()
    return rounded


def assert_same_windows(reference: Reference, found: Mapping[str, Plain], where: str) -> None:
    """Every window equal, event for event; none missing, none too many."""
    wanted = {name: plain_user(user) for name, user in reference.users.items()}
    wrong = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    first = wrong[0] if wrong else ""
    assert not wrong, (
        f"{where}: {len(wrong)} of {len(wanted)} windows differ, first {first}\n"
        f"wanted {json.dumps(wanted.get(first))}\nfound  {json.dumps(found.get(first))}"
    )


def assert_tombstones(reference: Reference, topic: Iterable[Record], where: str) -> None:
    """Who was forgotten and not heard of since has a tombstone as last record, which says when."""
    last = last_per_key(topic)
    for user, offset in reference.forgotten.items():
        assert last[user].value is None, f"{where}: {user} is forgotten but still there"
        assert last[user].headers["applied_offset"] == b"%d" % offset
    for user, offset in reference.expired.items():
        assert last[user].value is None, f"{where}: {user} has expired but is still there"
        assert int(last[user].headers["applied_offset"]) >= offset


def assert_buried(reference: Reference, dead_letters: Iterable[Record]) -> None:
    """Every record that is no event lies among the dead letters, at least once, and no other."""
    found = {
        (int(record.headers["source_partition"]), int(record.headers["source_offset"]))
        for record in dead_letters
        if record.headers["reason"] not in NOT_OF_EVENTS
    }
    assert found == reference.poison, (
        f"{len(reference.poison - found)} not buried, {len(found - reference.poison)} too many: "
        f"{sorted(found ^ reference.poison)[:10]}"
    )


def assert_nothing_committed_ahead(
    samples: Iterable[CommitSample],
    reference: Reference,
    changelog: list[Record],
    updates: list[Record],
) -> None:
    """For every commit seen: all events below it were in the changelog and published by then."""
    for sample in samples:
        stored = _applied(changelog, sample.changelog_ends)
        _assert_effects(sample.committed, reference, stored, "changelog")
        published = _applied(updates, sample.updates_ends)
        _assert_effects(sample.committed, reference, published, "updates")


def _assert_effects(
    committed: Mapping[int, int], reference: Reference, applied: Mapping[str, int], where: str
) -> None:
    for user, offsets in reference.offsets.items():
        end = committed.get(reference.partition[user], 0)
        needed = max((offset for offset in offsets if offset < end), default=-1)
        assert applied.get(user, -1) >= needed, (
            f"{where}: {end} was committed on partition {reference.partition[user]}, "
            f"but {user} had only {applied.get(user)} of {needed} applied"
        )


def _applied(records: list[Record], ends: Mapping[int, int]) -> dict[str, int]:
    """Return user -> highest source offset applied in the records below ``ends``.

    Windows that a frozen worker wrote behind newer ones do not take anything back.
    """
    found: dict[str, int] = {}
    for record in records:
        if record.offset < ends.get(record.partition, 0):
            user = (record.key or b"").decode()
            found[user] = max(found.get(user, -1), _applied_offset(record))
    return found


def _applied_offset(record: Record) -> int:
    if "applied_offset" in record.headers:
        return int(record.headers["applied_offset"])
    assert record.value is not None, "a tombstone without applied_offset header"
    return codec.decode(record.value).applied_offset


def _windows_of(path: Path) -> dict[str, Plain]:
    options = rocksdict.Options(raw_mode=True)
    database = rocksdict.Rdict(
        str(path), options=options, access_type=rocksdict.AccessType.read_only()
    )
    try:
        rows = cast(Iterable[tuple[bytes, bytes]], database.items())  # raw mode: bytes only
        return {
            key.decode(): plain_window(codec.decode(value))
            for key, value in rows
            if not key.startswith(b"\x00")
        }
    finally:
        database.close()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value
