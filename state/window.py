"""A user's rolling window: the recent past, oldest first, as columns.

Columns, because the two things done with every window on every event are to look for an event id
and to hand all times, types and items to the encoder: both are one C call on a tuple. A column in
which no event has a value is the empty tuple.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

import msgspec

from state.event import TYPE_CODES, WINDOW_TYPES, Event, EventType

_EVENT_OVERHEAD_BYTES = 24
"""Time, type, dwell and the lengths of the four texts, as the codec writes them at worst."""


class WindowPolicy(msgspec.Struct, frozen=True):
    """The caps of a window: whichever is reached first, the oldest events leave."""

    max_events: int = 50
    max_age_ms: int = 30 * 86_400_000
    """How far back the window reaches from its newest event."""
    max_bytes: int = 65_536
    """Of the held events together, in UTF-8, so that fifty long reviews stay one small record."""
    expiry_ms: int = 180 * 86_400_000
    """How much longer than ``max_age_ms`` a user may be silent and still be known. Half a year
    keeps the all-time counts of whoever comes back with the season."""

    @property
    def silence_ms(self) -> int:
        """The gap between two events of a user after which the later one begins anew."""
        return self.max_age_ms + self.expiry_ms

    @property
    def sweep_ms(self) -> int:
        """How far behind stream time a silent user's window is deleted.

        Once more ``expiry_ms`` after the gap, so that for events at most that late it makes no
        difference whether the window was deleted before them.
        """
        return self.silence_ms + self.expiry_ms


class Outcome(IntEnum):
    """What became of an event. Every event has exactly one, so the counts add up."""

    FOLDED = 0
    REDELIVERED = 1
    """Kafka delivered the record again: its offset was applied before."""
    DUPLICATE = 2
    """The same event was produced twice: another record, the same event id."""
    LATE = 3
    """Older than what the window reaches back to."""
    FORGOTTEN = 4
    """A forget: the window is gone."""


class Window(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of one user. Never changed, only replaced: see :func:`fold`."""

    applied_offset: int = -1
    """Of the last source record folded, whatever its outcome."""
    event_ids: tuple[str, ...] = ()
    types: bytes = b""
    """One code of :data:`state.event.TYPE_CODES` per event."""
    times_ms: tuple[int, ...] = ()
    item_ids: tuple[str | None, ...] = ()
    texts: tuple[str | None, ...] = ()
    session_ids: tuple[str | None, ...] = ()
    dwell_ms: tuple[int | None, ...] = ()
    counts: tuple[int, ...] = (0,) * len(WINDOW_TYPES)
    """All events ever folded, by type code; the held ones are among them."""
    held_bytes: int = 0
    horizon: tuple[int, str] = (-1, "")
    """Time and id of the newest event that had to leave. What is not after it is late; so an
    event that left cannot come back, and one that was late once is late always."""

    def __len__(self) -> int:
        return len(self.event_ids)

    @property
    def newest_ms(self) -> int:
        """Time of the newest event: the last one held, or where none is, the last that left."""
        return self.times_ms[-1] if self.times_ms else self.horizon[0]

    def events(self, user_id: str) -> Iterator[Event]:
        """Yield the held events, oldest first."""
        for at, event_id in enumerate(self.event_ids):
            yield Event(
                event_id=event_id,
                user_id=user_id,
                type=WINDOW_TYPES[self.types[at]],
                item_id=self.item_ids[at] if self.item_ids else None,
                text=self.texts[at] if self.texts else None,
                time_ms=self.times_ms[at],
                session_id=self.session_ids[at] if self.session_ids else None,
                dwell_ms=self.dwell_ms[at] if self.dwell_ms else None,
            )


EMPTY = Window()

_CODE_BYTES = tuple(bytes((code,)) for code in range(len(WINDOW_TYPES)))

T = TypeVar("T")


def fold(
    window: Window | None, event: Event, offset: int, policy: WindowPolicy
) -> tuple[Window | None, Outcome]:
    """Return the window after the record at ``offset``, and what became of its event.

    Pure. The held events are the newest ones of all that were seen, whatever their order and
    however often each came; ``counts`` are of what was folded in the order of offsets.
    ``None`` is the window of a user of whom nothing is known.

    An event further than ``policy.silence_ms`` ahead of the newest one held begins anew: by age
    all that is held would leave anyway, and now the counts go, too. So it makes no difference
    whether the silent user's window was deleted meanwhile.

    >>> policy = WindowPolicy(max_events=2)
    >>> window = None
    >>> for offset, (name, time_ms) in enumerate([("a", 10), ("c", 30), ("b", 20), ("c", 30)]):
    ...     event = Event(name, "user", EventType.VIEW, item_id=name, time_ms=time_ms)
    ...     window, outcome = fold(window, event, offset, policy)
    ...     print(outcome.name, window.event_ids)
    FOLDED ('a',)
    FOLDED ('a', 'c')
    FOLDED ('b', 'c')
    DUPLICATE ('b', 'c')
    """
    if window is None:
        window = EMPTY
    elif offset <= window.applied_offset:
        return window, Outcome.REDELIVERED
    if event.type is EventType.FORGET:
        return None, Outcome.FORGOTTEN
    if event.time_ms - window.newest_ms > policy.silence_ms:
        window = EMPTY
    if event.event_id in window.event_ids:
        return _seen(window, offset), Outcome.DUPLICATE
    position = (event.time_ms, event.event_id)
    if position <= window.horizon:
        return _seen(window, offset), Outcome.LATE
    return _inserted(window, event, position, offset, policy)


def _seen(window: Window, offset: int) -> Window:
    """Return the window with only its offset moved on."""
    return msgspec.structs.replace(window, applied_offset=offset)


def _inserted(
    window: Window, event: Event, position: tuple[int, str], offset: int, policy: WindowPolicy
) -> tuple[Window, Outcome]:
    """Put the event in its place, then let the oldest go until every cap holds."""
    count = len(window.times_ms)
    at = count
    if count and position < (window.times_ms[-1], window.event_ids[-1]):
        places = list(zip(window.times_ms, window.event_ids, strict=True))
        at = bisect.bisect_left(places, position)
    times_ms = window.times_ms[:at] + (event.time_ms,) + window.times_ms[at:]
    event_ids = window.event_ids[:at] + (event.event_id,) + window.event_ids[at:]
    item_ids = _grown(window.item_ids, at, count, event.item_id)
    texts = _grown(window.texts, at, count, event.text)
    session_ids = _grown(window.session_ids, at, count, event.session_id)

    def weight(row: int) -> int:
        total = _EVENT_OVERHEAD_BYTES + _utf8_bytes(event_ids[row])
        for column in (item_ids, texts, session_ids):
            if column:
                total += _utf8_bytes(column[row])
        return total

    held_bytes = window.held_bytes + weight(at)
    cut = count + 1 - policy.max_events if count >= policy.max_events else 0
    oldest_ms = times_ms[-1] - policy.max_age_ms
    if times_ms[cut] < oldest_ms:
        cut = bisect.bisect_left(times_ms, oldest_ms)
    for row in range(cut):
        held_bytes -= weight(row)
    while held_bytes > policy.max_bytes:
        held_bytes -= weight(cut)
        cut += 1
    kept = cut <= at
    code = TYPE_CODES[event.type]
    counts = window.counts
    dwell_ms = _grown(window.dwell_ms, at, count, event.dwell_ms)
    return Window(
        offset,
        event_ids[cut:],
        (window.types[:at] + _CODE_BYTES[code] + window.types[at:])[cut:],
        times_ms[cut:],
        item_ids[cut:],
        texts[cut:],
        session_ids[cut:],
        dwell_ms[cut:],
        counts[:code] + (counts[code] + 1,) + counts[code + 1 :] if kept else counts,
        held_bytes,
        (times_ms[cut - 1], event_ids[cut - 1]) if cut else window.horizon,
    ), (Outcome.FOLDED if kept else Outcome.LATE)


def _grown(
    column: tuple[T | None, ...], at: int, count: int, value: T | None
) -> tuple[T | None, ...]:
    """Insert ``value`` at ``at``; a column of nothing but ``None`` stays the empty tuple."""
    if column:
        return column[:at] + (value,) + column[at:]
    if value is None:
        return column
    return (None,) * at + (value,) + (None,) * (count - at)


def _utf8_bytes(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
