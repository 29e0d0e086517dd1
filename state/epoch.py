"""Epochs of a changelog partition: what a rewind declares past, and how a record says whose it is.

A rewind makes windows anew from an offset on. It writes one mark to each changelog partition that
it concerns. Whoever restores windows from the changelog drops at the mark those that the rewind
makes anew, and refuses behind it what still comes from before: source offsets alone cannot tell,
for they begin again lower. Every mark has a key of its own, so compaction keeps them all, in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

EPOCH_HEADER = "epoch"
"""Of a changelog record: the epoch it was written in, decimal digits; none is epoch 0."""

_KEY_PREFIX = b"\x00epoch-"
"""User ids hold no NUL (see :func:`state.event.decode`), so no user collides."""


class Mark(NamedTuple):
    """The beginning of an epoch in one changelog partition."""

    epoch: int
    from_offset: int
    """Source offset that the group was rewound to: windows that include it are made anew."""


class _Value(msgspec.Struct):
    epoch: int
    from_offset: int


_decoder = msgspec.json.Decoder(_Value)


def is_mark(key: bytes | None) -> bool:
    """Tell whether a changelog record with this key is a mark, not a user's window."""
    return key is not None and key.startswith(_KEY_PREFIX)


def encode(mark: Mark) -> tuple[bytes, bytes]:
    """Return a mark's record: its key and value.

    >>> encode(Mark(1, 0))
    (b'\\x00epoch-1', b'{"epoch":1,"from_offset":0}')
    """
    return _KEY_PREFIX + b"%d" % mark.epoch, msgspec.json.encode(_Value(*mark))


def decode(value: bytes) -> Mark:
    """Return the mark in a record's value."""
    found = _decoder.decode(value)
    return Mark(found.epoch, found.from_offset)


def of_headers(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return the epoch in which a changelog record was written."""
    return next((int(value) for name, value in headers if name == EPOCH_HEADER), 0)


def headers(epoch: int) -> list[tuple[str, bytes]]:
    """Return the header that says the epoch; none for epoch 0, where nothing was ever rewound."""
    return [(EPOCH_HEADER, b"%d" % epoch)] if epoch else []
