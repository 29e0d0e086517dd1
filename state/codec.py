"""The bytes of a window, as RocksDB and the changelog keep them: one version byte, then msgpack.

Version 1: a msgpack array of :class:`state.window.Window`'s fields, in order. A field added later
goes to the end with a default, so that old bytes stay readable; any other change is a new version
with a reader of its own here and golden bytes in the tests.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import msgspec

from state.window import Window

VERSION = 1

_PREFIX = bytes((VERSION,))
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Window)


class UnreadableWindow(ValueError):
    """Stored bytes that no version of this codec wrote."""


def encode(window: Window) -> bytes:
    """Return the window's bytes. Equal windows give equal bytes."""
    return _PREFIX + _encoder.encode(window)


def decode(stored: bytes) -> Window:
    """Return the window in ``stored``.

    Raises:
        UnreadableWindow: an unknown version (written by a newer worker?) or damaged bytes.
    """
    if stored[:1] != _PREFIX:
        found = stored[0] if stored else "nothing"
        raise UnreadableWindow(
            f"window bytes of version {found}; this build reads version {VERSION}: "
            "was the state written by a newer worker?"
        )
    try:
        return _decoder.decode(memoryview(stored)[1:])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UnreadableWindow(f"damaged window bytes: {error}") from error


def applied_offset(stored: bytes) -> int:
    """Return only the window's source offset, which restores compare record by record."""
    return _offset_decoder.decode(memoryview(stored)[1:]).applied_offset


def last_seen(stored: bytes) -> LastSeen:
    """Return the window's source offset and its newest event's time, and skip the rest.

    A sweep over all windows asks for nothing else, and needs half the time of :func:`decode`.

    Raises:
        UnreadableWindow: as :func:`decode`.
    """
    if stored[:1] == _PREFIX:
        with contextlib.suppress(msgspec.MsgspecError):
            found = _times_decoder.decode(memoryview(stored)[1:])
            if found.times_ms:
                return LastSeen(found.applied_offset, found.times_ms[-1])
    window = decode(stored)
    return LastSeen(window.applied_offset, window.newest_ms)


class LastSeen(NamedTuple):
    """Up to where a window includes everything, and when its user was last heard of."""

    applied_offset: int
    newest_ms: int


class _OffsetOnly(msgspec.Struct, array_like=True):
    """The first field of version 1; msgspec skips the rest without building it."""

    applied_offset: int


class _UpToTimes(msgspec.Struct, array_like=True, gc=False):
    """The first fields of version 1, those between not built."""

    applied_offset: int
    event_ids: msgspec.Raw
    types: msgspec.Raw
    times_ms: tuple[int, ...]


_times_decoder = msgspec.msgpack.Decoder(_UpToTimes)
_offset_decoder = msgspec.msgpack.Decoder(_OffsetOnly)
