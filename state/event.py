"""One act of a user, as it comes from the events topic."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from state.masking import mask
from state.pseudonyms import Pseudonyms


class EventType(StrEnum):
    """What a user can do. ``forget`` asks us to delete everything we know of the user."""

    VIEW = "view"
    CLICK = "click"
    PURCHASE = "purchase"
    SEARCH = "search"
    REVIEW = "review"
    FORGET = "forget"


WINDOW_TYPES = (
    EventType.VIEW,
    EventType.CLICK,
    EventType.PURCHASE,
    EventType.SEARCH,
    EventType.REVIEW,
)
"""The types a window can hold, in the order of their codes: stored bytes depend on it, so only
ever append. ``forget`` has no code, for it leaves nothing to store."""

_NO_TIME = -(2**63)

TYPE_CODES: dict[EventType, int] = {kind: code for code, kind in enumerate(WINDOW_TYPES)}

WRITTEN_TYPES = frozenset({EventType.SEARCH, EventType.REVIEW})
"""What users write themselves; the text of the others is the shop's."""


class EventLimits(msgspec.Struct, frozen=True):
    """What a record may weigh and when it may claim to have happened."""

    max_bytes: int = 65_536
    """The whole record value."""
    max_id_chars: int = 256
    """Each of user, event, item and session id."""
    max_text_chars: int = 4_000
    max_future_ms: int = 86_400_000
    """How far ``time_ms`` may lie ahead of the record's own timestamp: a day forgives time zones
    and wrong clocks; more would push every honest event out of the window."""
    masked_types: frozenset[EventType] = frozenset()
    """Types in whose texts addresses and numbers are masked (:mod:`state.masking`). Here and not
    behind :func:`decode`, so that whoever reads events, a worker, a replay, a verification or a
    training, reads the same texts."""
    pseudonyms: Pseudonyms | None = None
    """What takes the place of user ids. Here for the same reason."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event that passed every check. Times are milliseconds since the epoch, UTC."""

    event_id: str
    user_id: str
    type: EventType
    item_id: str | None = None
    text: str | None = None
    time_ms: int = _NO_TIME
    session_id: str | None = None
    dwell_ms: int | None = None


class InvalidEvent(ValueError):
    """A record that is no event: it belongs on the dead-letter topic.

    ``reason`` is one of a fixed few slugs (a metric label), ``detail`` says it to a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_decoder = msgspec.json.Decoder(Event)
_WRONG_VALUE = re.compile(r"^Invalid enum value (?P<value>.+) - at `\$\.type`$")


def decode(key: bytes | None, value: bytes | None, timestamp_ms: int, limits: EventLimits) -> Event:
    """Return the event in a record of the events topic.

    ``timestamp_ms`` is the record's own time; it counts where the event names none. Texts are
    masked and user ids replaced as ``limits`` say.

    Raises:
        InvalidEvent: with one of the reasons ``empty``, ``too-large``, ``not-json``,
            ``not-an-object``, ``invalid-field``, ``unknown-type``, ``key-mismatch``,
            ``absurd-time``.

    >>> decode(b"u", b'{"event_id":"e","user_id":"u","type":"view","item_id":"i"}', 7,
    ...        EventLimits()).time_ms
    7
    """
    if value is None:
        raise InvalidEvent("empty", "the record has no value")
    if len(value) > limits.max_bytes:
        raise InvalidEvent(
            "too-large", f"{len(value)} bytes, at most {limits.max_bytes} are allowed"
        )
    try:
        event = _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise _classified(value, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent("not-json", str(error)) from None
    _check_meaning(event)
    if len(value) > min(limits.max_id_chars, limits.max_text_chars):  # else nothing can be longer
        _check_lengths(event, limits)
    if key is None or key != event.user_id.encode():
        raise InvalidEvent("key-mismatch", "the record key must be the user_id, in UTF-8")
    if event.text is not None and event.type in limits.masked_types:
        masked = mask(event.text)
        if masked is not event.text:
            event = msgspec.structs.replace(event, text=masked)
    if limits.pseudonyms is not None:
        event = msgspec.structs.replace(event, user_id=limits.pseudonyms.of(event.user_id))
    if event.time_ms == _NO_TIME:
        return msgspec.structs.replace(event, time_ms=timestamp_ms)
    if event.time_ms < 0 or event.time_ms > timestamp_ms + limits.max_future_ms:
        raise InvalidEvent(
            "absurd-time",
            f"time_ms {event.time_ms} lies before 1970 or more than {limits.max_future_ms} ms "
            f"ahead of the record's timestamp {timestamp_ms}",
        )
    return event


def _classified(value: bytes, message: str) -> InvalidEvent:
    """Name what msgspec found: its message holds the field and the two types."""
    try:  # msgspec stops at the first wrong field, so what follows it may still not be JSON
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return InvalidEvent("not-json", str(error))
    if message.startswith("Expected `object`") and " - at " not in message:
        return InvalidEvent("not-an-object", message)
    unknown = _WRONG_VALUE.match(message)
    if unknown:
        allowed = ", ".join(kind.value for kind in EventType)
        return InvalidEvent("unknown-type", f"type is {unknown['value']}; allowed: {allowed}")
    return InvalidEvent("invalid-field", message)


def _check_meaning(event: Event) -> None:
    if not event.event_id or not event.user_id:
        name = "event_id" if not event.event_id else "user_id"
        raise InvalidEvent("invalid-field", f"{name} must not be empty")
    if "\x00" in event.user_id:
        raise InvalidEvent("invalid-field", "user_id must not hold a NUL character")
    if event.dwell_ms is not None and not 0 <= event.dwell_ms < 2**31:
        raise InvalidEvent("invalid-field", f"dwell_ms is {event.dwell_ms}, must be 0 to 2^31-1")
    if event.type in WRITTEN_TYPES:
        if not event.text:
            raise InvalidEvent("invalid-field", f"a {event.type} needs a text")
    elif not event.item_id and not event.text and event.type is not EventType.FORGET:
        raise InvalidEvent("invalid-field", f"a {event.type} needs an item_id or a text")


def _check_lengths(event: Event, limits: EventLimits) -> None:
    for name in ("event_id", "user_id", "item_id", "session_id"):
        text = getattr(event, name)
        if text is not None and len(text) > limits.max_id_chars:
            raise InvalidEvent(
                "too-large", f"{name} has {len(text)} characters of {limits.max_id_chars}"
            )
    if event.text is not None and len(event.text) > limits.max_text_chars:
        raise InvalidEvent(
            "too-large", f"text has {len(event.text)} characters of {limits.max_text_chars}"
        )
