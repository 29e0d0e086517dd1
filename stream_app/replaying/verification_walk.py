"""The past folded anew, with a stop wherever something was published. Pure.

Walked in the order of the log: what was published at an offset is looked at when everything up to
that offset is folded and nothing behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

from state import codec
from state.event import EventLimits, EventType, InvalidEvent, decode
from state.window import Window, WindowPolicy, fold
from stream_app.replaying.verification_published import (
    Published,
    PublishedPartition,
    Wanted,
    window_digest,
)
from stream_app.replaying.verification_result import Kind, Verified


class Suspect(NamedTuple):
    """Something that is not as it should be, its cause not yet known."""

    kind: Kind
    key: bytes
    offset: int
    published: Published | None
    """The record that differs; None where one is missing."""
    ours: Window | None
    """The window that the user has at ``offset``."""


class ToEncode(NamedTuple):
    """An update, and the window that its vector must be of."""

    published: Published
    window: Window


class Walk:
    """One partition: windows as far as the log is read, and what is still to be looked at."""

    def __init__(
        self,
        published: PublishedPartition,
        verified: Verified,
        *,
        limits: EventLimits,
        policy: WindowPolicy,
        model_id: str,
        start: int,
        end: int,
        wanted: Wanted,
    ) -> None:
        """Compare what was published at ``start`` and later, before ``end``."""
        self._published = published
        self._verified = verified
        self._limits = limits
        self._policy = policy
        self._model_id = model_id
        self._start = start
        self._end = end
        self._wanted = wanted
        in_range = [
            each
            for each in published.records
            # Where an unreadable record belongs is not known.
            if start <= each.applied_offset < end or each.digest == b""
        ]
        self._ahead = sorted(in_range, key=lambda each: each.applied_offset)
        self._ahead.reverse()  # so that the next one is at the end, and equal ones keep their order
        self._windows: dict[bytes, Window] = {}
        self._known: set[bytes] | None = set() if published.begin else None
        """Users whose whole past is known, where the log has lost its beginning; None: all."""
        self._forgotten: dict[bytes, int] = {}
        """User -> offset of the last forget."""
        self._stream_ms = -1
        """Stream time: by it, silent users are let go."""
        self.suspects: list[Suspect] = []
        self.to_encode: list[ToEncode] = []
        """Grows with every look; whoever encodes takes it away."""

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Fold the next records of the partition, those before the end."""
        windows, known = self._windows, self._known
        ahead, wanted = self._ahead, self._wanted
        verified, limits, policy = self._verified, self._limits, self._policy
        for record in records:
            offset = record.offset
            while ahead and ahead[-1].applied_offset < offset:
                self._look_at(ahead.pop())
            verified.events += 1
            try:
                event = decode(record.key, record.value, record.timestamp, limits)
            except InvalidEvent:
                verified.dead_letters += self._is_of_wanted(record.key)
                continue
            key = record.key if limits.pseudonyms is None else event.user_id.encode()
            if event.type is not EventType.FORGET and event.time_ms > self._stream_ms:
                self._stream_ms = event.time_ms  # of everybody's events
            if not wanted(key):
                continue
            if known is not None and key not in known:
                if event.type is not EventType.FORGET:
                    continue
                known.add(key)  # with a forget everything begins anew
            after, _ = fold(windows.get(key), event, offset, policy)
            if after is None:
                windows.pop(key, None)
                self._forgotten[key] = offset
            else:
                windows[key] = after

    def _is_of_wanted(self, key: bytes | None) -> bool:
        """Tell it of a record that is no event."""
        pseudonyms = self._limits.pseudonyms
        return key is None or self._wanted(key if pseudonyms is None else pseudonyms.of_key(key))

    def finish(self) -> None:
        """Look at the rest, and for what should have been published and was not."""
        while self._ahead:
            self._look_at(self._ahead.pop())
        self._verified.users += len(self._windows)
        for key, window in self._windows.items():
            if window.applied_offset >= self._start and not self._is_expired(window):
                self._suspect_missing(key, window)
        for key, offset in self._forgotten.items():
            if offset >= self._start and key not in self._windows:
                self._suspect_standing(key, offset)

    def _look_at(self, found: Published) -> None:
        verified = self._verified
        if found.digest == b"":
            self._suspect(Kind.UNREADABLE, found, None)
            return
        if self._known is not None and found.key not in self._known and not self._anchored(found):
            verified.history_gone += 1
            return
        window = self._windows.get(found.key)
        if found.digest is None:
            verified.tombstones += 1
            if window is not None:
                self._look_at_expiry(found, window)
        elif found.is_vector:
            self._look_at_vector(found, window)
        else:
            verified.windows += 1
            if window is None or found.digest != window_digest(codec.encode(window)):
                self._suspect(Kind.WINDOW, found, window)

    def _look_at_expiry(self, found: Published, window: Window) -> None:
        """A tombstone without a forget: the sweep's, whose time this repeats, or a difference.

        The update goes before the window, and the window may stay if the user acts in between.
        """
        if not self._is_expired(window):
            self._suspect(Kind.TOMBSTONE_UNEXPECTED, found, window)
        elif not found.is_vector:
            del self._windows[found.key]

    def _is_expired(self, window: Window) -> bool:
        return self._stream_ms - window.newest_ms > self._policy.sweep_ms

    def _anchored(self, found: Published) -> bool:
        """Begin with the user's first window, if this is it; what follows can be compared."""
        anchor = self._published.anchors.get(found.key)
        if anchor is None or anchor.applied_offset != found.applied_offset or self._known is None:
            return False
        self._windows[found.key] = codec.decode(anchor.stored)
        self._known.add(found.key)
        self._verified.anchors += 1
        return True

    def _look_at_vector(self, found: Published, window: Window | None) -> None:
        verified = self._verified
        if found.model_id != self._model_id:
            of_others = verified.of_other_models
            of_others[found.model_id] = of_others.get(found.model_id, 0) + 1
            return
        verified.vectors += 1
        if window is None or window.applied_offset != found.applied_offset:
            self._suspect(Kind.VECTOR, found, window)
        else:
            self.to_encode.append(ToEncode(found, window))

    def _suspect(self, kind: Kind, found: Published, window: Window | None) -> None:
        self.suspects.append(Suspect(kind, found.key, found.applied_offset, found, window))

    def _suspect_missing(self, key: bytes, window: Window) -> None:
        for kind, last in self._lasts():
            newest = last.get(key)
            if newest is None or newest.applied_offset < window.applied_offset:
                self.suspects.append(Suspect(kind, key, window.applied_offset, None, window))

    def _suspect_standing(self, key: bytes, offset: int) -> None:
        """A tombstone may be gone after a day, with all that went before it; not before that."""
        for _, last in self._lasts():
            newest = last.get(key)
            if newest is not None and newest.digest and newest.applied_offset < offset:
                self.suspects.append(Suspect(Kind.TOMBSTONE_MISSING, key, offset, newest, None))

    def _lasts(self) -> Iterator[tuple[Kind, dict[bytes, Published]]]:
        yield Kind.WINDOW_MISSING, self._published.last_window
        yield Kind.VECTOR_MISSING, self._published.last_vector
