"""``replay --verify``: nothing found where nothing is wrong, and each planted difference listed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import orjson
import pytest

from state import codec
from stream_app.replaying import group
from tests.broker.test_command_line import command
from tests.harness import checks
from tests.harness.client import Message, Record
from tests.harness.load import Load, item_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

LOAD = Load(events=4_000, users=60, items=40, seed=31)


def verified(stream: Stream, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command, which must end with ``code``; return what it says."""
    done = command(stream, "replay", "--verify", "--json", *arguments)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_found_where_nothing_is_wrong_and_what_is_planted_is_listed(
    stream: Stream,
) -> None:
    stream.publish(LOAD.catalogue())
    stream.start_workers(2)
    stream.send(LOAD.messages())
    stream.drain()
    stream.stop_workers()
    changelog, updates = stream.changelog(), stream.updates()

    clean = verified(stream)
    assert clean["differences"] == []
    assert clean["events"] == len(stream.events())
    assert clean["windows"] == sum(record.value is not None for record in changelog)
    assert clean["vectors"] == sum(record.value is not None for record in updates)
    tombstones = [each for each in (*changelog, *updates) if each.value is None]
    assert clean["tombstones"] == len(tombstones) > 0

    planted = plant(stream, changelog, updates)
    found = verified(stream, code=1)
    listed = {(each["user"], each["kind"], each["cause"]): each for each in found["differences"]}
    for user, kind, cause, words in planted:
        assert words in listed[user, kind, cause]["detail"]
    causes = Counter(each["cause"] for each in found["differences"])
    swapped = [each for each in listed.values() if each["cause"] == "item-text-changed"]
    assert all("item item-7" in each["detail"] for each in swapped)
    # What is listed is what was planted, or holds the item whose text was swapped; no more.
    others = {key for key in listed if key[2] != "item-text-changed"}
    assert others == {
        (user, kind, cause) for user, kind, cause, _ in planted if "item" not in cause
    }
    assert found["failing"] == sum(causes.values())

    stranger = next(user for user in users(updates) if not {user} & {key[0] for key in listed})
    assert verified(stream, "--users", stranger)["vectors"] > 0

    arguments = ("--tolerance", "0.01", "--allow", "item-text-changed")
    table = command(stream, "replay", "--verify", *arguments)
    assert table.returncode == 1
    assert "1 vectors differ within the tolerance" in table.stdout
    assert f"3 of {len(found['differences']) - 1} differences are not allowed" in table.stdout
    assert "item-text-changed" in table.stdout


def plant(
    stream: Stream, changelog: list[Record], updates: list[Record]
) -> list[tuple[str, str, str, str]]:
    """Put one difference of each kind into the topics; return user, kind, cause, words of each."""
    windows = checks.last_per_key(changelog)
    vectors = checks.last_per_key(updates)
    quiet = [
        user for user, last in vectors.items()
        if last.value is not None and "item-7" not in held(windows[user])
    ]  # fmt: skip
    changed, nudged, gone = quiet[:3]
    broken = bytearray(windows[changed].value or b"")
    broken[broken.index(b"e31-")] ^= 1
    update = orjson.loads(vectors[nudged].value or b"")
    update["vector"][0] += 0.005
    stream.client.produce(
        stream.settings.changelog_topic,
        [Message(changed.encode(), bytes(broken), windows[changed].partition)],
    )
    stream.client.produce(
        stream.settings.updates_topic,
        [Message(nudged.encode(), orjson.dumps(update), vectors[nudged].partition)],
    )
    stream.publish([item_message("item-7", "something else altogether")])
    missing = Message(gone.encode(), event(gone), vectors[gone].partition)
    stream.send([missing])
    ends = stream.client.ends(stream.settings.events_topic)
    asyncio.run(
        group.set_offsets(
            stream.client.bootstrap, stream.settings.app_id, stream.settings.events_topic, ends
        )
    )
    holder = next(user for user, last in windows.items() if last.value and "item-7" in held(last))
    return [
        (changed, "window", "unknown", "differs in event_ids"),
        (nudged, "vector", "unknown", "1 numbers differ, number 0 most, by 0.005"),
        (holder, "vector", "item-text-changed", "the text of item item-7 is of"),
        (gone, "window-missing", "unknown", "no window so new"),
        (gone, "vector-missing", "unknown", "no update so new"),
    ]


def held(record: Record) -> set[str | None]:
    """Return the items whose catalogue text counts in a window: a review has its own."""
    if record.value is None:
        return set()
    return {each.item_id for each in codec.decode(record.value).events("") if each.text is None}


def users(updates: list[Record]) -> list[str]:
    return sorted(user for user, last in checks.last_per_key(updates).items() if last.value)


def event(user: str) -> bytes:
    return orjson.dumps(
        {"event_id": "unseen", "user_id": user, "type": "view", "item_id": "item-1"}
    )
