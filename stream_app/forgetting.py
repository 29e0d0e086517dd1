"""A user forgotten on request, and the proof that nothing of ours knows them any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import aiohttp
import orjson

from encoders import text_cache
from encoders.text_rows import content_key
from state.event import InvalidEvent, decode
from state.table import stored_by
from state.window import Window
from stream_app import topics, user_view
from stream_app.errors import FixData, FixSettings, RestartWorker
from stream_app.sender import open_sender
from stream_app.settings import Settings
from stream_app.updates import Update

_POLL_S = 0.2
_ATTEMPTS = 5
"""Of reading files beside the process that writes them: a compaction may delete one of them."""
_API_TIMEOUT_S = 10

T = TypeVar("T")


class Forget(NamedTuple):
    """Where a request to forget lies in the events topic."""

    partition: int
    offset: int


class Finding(NamedTuple):
    """What one place knows of a user; ``known`` is None where it could not be looked at."""

    place: str
    known: bool | None
    detail: str


class Api(NamedTuple):
    """A worker's read API."""

    url: str
    token: str


def request(settings: Settings, user_id: str, event_id: str) -> tuple[bytes, bytes]:
    """Return key and value of the event that forgets a user.

    Raises:
        FixData: nobody can have this id.
    """
    try:
        key = user_id.encode()
        value = orjson.dumps({"event_id": event_id, "user_id": user_id, "type": "forget"})
        decode(key, value, 0, settings.event_limits())
    except (InvalidEvent, UnicodeEncodeError) as error:
        raise FixData(f"{user_id!r} is no user id: {error}") from None
    return key, value


async def forget(settings: Settings, user_id: str, event_id: str) -> Forget:
    """Write the event; it is in the log for good when this returns.

    Raises:
        FixData: nobody can have this id.
        FixSettings, WaitForBroker: there is no events topic, or the broker does not answer.
    """
    key, value = request(settings, user_id, event_id)
    await topics.partition_count(settings.kafka, settings.events_topic)  # refuses a missing one
    written: list[Forget] = []
    async with open_sender(settings.kafka) as sender:
        await sender.send(
            settings.events_topic,
            key,
            value,
            lambda _, partition, offset, __: written.append(Forget(partition, offset)),
        )
    return written[0]


async def own_texts(settings: Settings, user_id: str) -> list[str] | None:
    """Return the texts of their own that a user's window holds: what caches may know of them.

    None: there is no window that could say.
    """
    window = (await user_view.look_up(settings, user_id)).window
    return None if window is None else sorted({text for text in window.texts if text})


async def applied(settings: Settings, wanted: Forget, within_s: float) -> Finding:
    """Wait until the workers have committed past the forget."""
    deadline = time.monotonic() + within_s
    while True:
        reached = (await topics.committed(settings)).get(wanted.partition, 0)
        if reached > wanted.offset:
            return Finding("workers", False, f"past offset {wanted.offset}")
        if time.monotonic() > deadline:
            return Finding(
                "workers",
                True,
                f"not there yet after {within_s:.0f} s: partition {wanted.partition} is committed "
                f"up to {reached}, the forget lies at {wanted.offset}; is a worker running?",
            )
        await asyncio.sleep(_POLL_S)


async def look(
    settings: Settings, user_id: str, texts: Sequence[str] | None, api: Api | None
) -> list[Finding]:
    """Return what changelog, updates, this datadir's tables and caches, and the API know.

    ``texts`` are the user's own as they were before the forget, None if nobody knows them any more.
    """
    view = await user_view.look_up(settings, user_id)
    found = [
        _in_topic(settings.changelog_topic, view.window),
        _in_topic(settings.updates_topic, view.update),
        _in_tables(settings.datadir, view.partition, settings.key_of(user_id)),
        _in_cache(settings.datadir / "text-cache", texts),
    ]
    if api is None:
        found.append(Finding("API", None, "not asked: name it with --api and --api-token"))
    else:
        found.append(await _in_api(api, user_id))
    return found


def _in_topic(topic: str, found: Window | Update | None) -> Finding:
    if found is None:
        return Finding(topic, False, "the last record is a tombstone, or there is none")
    return Finding(topic, True, f"as of offset {found.applied_offset} of the events")


def _in_tables(datadir: Path, partition: int, key: bytes) -> Finding:
    """Look at the windows stored on this machine, a standby's and a replay's among them."""
    paths = sorted(datadir.glob(f"**/windows-{partition}.rocksdb"))
    if not paths:
        return Finding(
            "windows", None, f"{datadir} holds nothing of partition {partition}: look where it does"
        )
    where = [path for path in paths if _beside_owner(partial(stored_by, path, [key]))[0]]
    if where:
        return Finding("windows", True, f"in {', '.join(map(str, where))}")
    return Finding("windows", False, f"not in {', '.join(map(str, paths))}")


def _in_cache(folder: Path, texts: Sequence[str] | None) -> Finding:
    """Look for vectors of the user's own texts, whichever model made them."""
    if texts is None:
        return Finding(
            "text cache", None, "without their window nobody knows which texts were theirs"
        )
    names = text_cache.namespaces(folder)
    keys = [content_key(name, text) for name in names for text in texts]
    held = _beside_owner(lambda: text_cache.held(folder, keys))
    if held:
        return Finding(
            "text cache",
            True,
            f"{folder} holds {len(held)} vectors of their texts; somebody else may have written "
            "the very same since",
        )
    return Finding("text cache", False, f"{len(texts)} texts of theirs, none in {folder}")


def _beside_owner(read: Callable[[], T]) -> T:
    for _ in range(_ATTEMPTS - 1):
        try:
            return read()
        except Exception:  # noqa: BLE001 - rocksdict raises bare Exception
            time.sleep(_POLL_S)
    try:
        return read()
    except Exception as error:
        raise RestartWorker(
            f"RocksDB's files cannot be read: {error}; try again, with the worker stopped"
        ) from error


async def _in_api(api: Api, user_id: str) -> Finding:
    url = f"{api.url.rstrip('/')}/v1/users/{quote(user_id, safe='')}/interest"
    timeout = aiohttp.ClientTimeout(total=_API_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {api.token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(url) as answer,
        ):
            body = await answer.text()
            if answer.status == 200:
                return Finding("API", True, f"{api.url} answers with their interest")
            if answer.status == 404 and "unknown-user" in body:
                return Finding("API", False, f"{api.url}: unknown user")
            if answer.status in (401, 403):
                raise FixSettings(f"{api.url} refuses the token: {answer.status}")
            return Finding("API", None, f"{api.url} answers {answer.status}")
    except (aiohttp.ClientError, TimeoutError) as error:
        return Finding("API", None, f"{api.url} does not answer: {error!r}")
