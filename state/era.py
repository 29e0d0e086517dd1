"""Eras of a changelog partition: what a rewind declares past, and how a record says whose it is.

A rewind makes windows anew from an offset on. It writes one mark to each changelog partition that
it concerns. Whoever restores windows from the changelog drops at the mark those that the rewind
makes anew, and refuses behind it what still comes from before: source offsets alone cannot tell,
for they begin again lower. Every mark has a key of its own, so compaction keeps them all, in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

ERA_HEADER = "era"
"""Of a changelog record: the era it was written in, decimal digits; none is era 0."""

_KEY_PREFIX = b"\x00era-"
"""User ids hold no NUL (see :func:`state.event.decode`), so no user collides."""


class Mark(NamedTuple):
    """The beginning of an era in one changelog partition."""

    era: int
    from_offset: int
    """Source offset that the group was rewound to: windows that include it are made anew."""


class _Value(msgspec.Struct):
    era: int
    from_offset: int


_decoder = msgspec.json.Decoder(_Value)


def is_mark(key: bytes | None) -> bool:
    """Tell whether a changelog record with this key is a mark, not a user's window."""
    return key is not None and key.startswith(_KEY_PREFIX)


def encode(mark: Mark) -> tuple[bytes, bytes]:
    """Return a mark's record: its key and value.

    >>> encode(Mark(1, 0))
    (b'\\x00era-1', b'{"era":1,"from_offset":0}')
    """
    return _KEY_PREFIX + b"%d" % mark.era, msgspec.json.encode(_Value(*mark))


def decode(value: bytes) -> Mark:
    """Return the mark in a record's value."""
    found = _decoder.decode(value)
    return Mark(found.era, found.from_offset)


def of_headers(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return the era in which a changelog record was written."""
    return next((int(value) for name, value in headers if name == ERA_HEADER), 0)


def headers(era: int) -> list[tuple[str, bytes]]:
    """Return the header that says the era; none for era 0, where nothing was ever rewound."""
    return [(ERA_HEADER, b"%d" % era)] if era else []
