"""Items and events in files: JSON Lines, one record of the topic per line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from stream_app.errors import FixData
from stream_app.item_record import Item

Record = tuple[bytes, bytes]
"""Key and value, ready for a topic."""


MAX_GROUPS = 50
"""Values of one attribute of users that an evaluation compares."""


class _EventLine(msgspec.Struct):
    user_id: str


def events(path: Path) -> Iterator[Record]:
    """Yield the events of a file (``-``: standard input), keyed by user.

    Only ``user_id`` is looked at, since the key needs it: what else is wrong with an event is
    for the worker to say, on the dead-letter topic.

    Raises:
        FixData: a line without user_id; the message names file and line.
    """
    decode = msgspec.json.Decoder(_EventLine).decode
    for number, line in _lines(path):
        try:
            yield decode(line).user_id.encode(), line
        except msgspec.MsgspecError as error:
            raise FixData(f"{path}, line {number}: {error}") from None


def items(path: Path) -> Iterator[tuple[Item, bytes]]:
    """Yield the items of a file (``-``: standard input) and the lines they come from.

    Raises:
        FixData: a line without item_id or text, or with a media_vector that is none; the
            message names file and line.
    """
    decode = msgspec.json.Decoder(Item).decode
    for number, line in _lines(path):
        try:
            item = decode(line)
            item.media()
        except (msgspec.MsgspecError, ValueError) as error:
            raise FixData(f"{path}, line {number}: {error}") from None
        if not item.item_id:
            raise FixData(f"{path}, line {number}: item_id must not be empty")
        yield item, line


def groups(path: Path) -> dict[str, dict[str, str]]:
    """Return the group of each user by name of the attribute and user id: JSON Lines of
    ``user_id`` and attributes, such as ``{"user_id": "u1", "region": "north", "age": 35}``.

    Raises:
        FixData: a line without user_id, or with an attribute that is a list or an object, or a
            user twice; an attribute of more values than one would look at. The message names it.
    """
    decode = msgspec.json.Decoder(dict[str, str | float | bool | None]).decode
    found: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    for number, line in _lines(path):
        try:
            values = decode(line)
        except msgspec.MsgspecError as error:
            raise FixData(f"{path}, line {number}: {error}") from None
        user_id = values.pop("user_id", None)
        if not isinstance(user_id, str):
            raise FixData(f"{path}, line {number}: user_id must be a string")
        if user_id in seen:
            raise FixData(f"{path}, line {number}: user {user_id!r} stands there twice")
        seen.add(user_id)
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, {})[user_id] = _group(value)
    for name, of_user in found.items():
        if (count := len(set(of_user.values()))) > MAX_GROUPS:
            raise FixData(
                f"{path}: {name} has {count} different values, at most {MAX_GROUPS} can be "
                "compared: put them into groups, years into tens, say"
            )
    return found


def _group(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def line_count(path: Path) -> int | None:
    """Return how many records a file holds, None where it cannot be read twice."""
    return None if str(path) == "-" or not path.is_file() else sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if stripped := line.strip():
                yield number, stripped


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as lines:
            yield lines
    except OSError as error:
        raise FixData(f"{path} cannot be read: {error.strerror}") from None
