"""What a record of the updates topic changed, and which of two changes is the newer one."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.structs import ConsumerRecord

from stream_app.errors import FixData
from stream_app.updates import Update, decode

NOT_SAID = -1
"""The applied offset of a tombstone made by hand, which has no header that says it."""

_APPLIED_OFFSET_HEADER = "applied_offset"


class Change(NamedTuple):
    """What a record of the updates topic changed: ``update`` is ``None`` for a forgotten user."""

    user_id: str
    update: Update | None
    applied_offset: int
    partition: int = 0
    """Of the updates topic, and of the source topic: they are the same number."""
    published_ms: int = 0
    """The record's timestamp: when the worker wrote it."""


def read(record: ConsumerRecord) -> Change:
    """Return the change in a record of the updates topic, JSON or Avro.

    Raises:
        FixData: the record is no update; the message says where it lies.
    """
    try:
        return _read(record)
    except (FixData, ValueError) as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        raise FixData(f"{place}: {error}") from error


def is_stale(change: Change, held: Change) -> bool:
    """Tell whether ``change`` is older than what is ``held`` of the same user.

    Within a partition the applied offset decides, and an equal one is no older. Of two partitions
    the offsets say nothing: the user's events moved, since the topics got more partitions, and the
    record that was written later counts.
    """
    if change.partition != held.partition:
        return change.published_ms < held.published_ms
    if change.update is None and change.applied_offset == NOT_SAID:
        return False
    return change.applied_offset < held.applied_offset


def _read(record: ConsumerRecord) -> Change:
    if record.key is None:
        raise FixData("an update without a key")
    user_id, update = record.key.decode(), None
    if record.value is not None:
        update = decode(record.value)
        if update.user_id != user_id:
            raise FixData("an update of one user with the key of another")
        user_id = update.user_id  # one string of the two is kept, once per user
        offset = update.applied_offset
    else:
        told = [value for name, value in record.headers if name == _APPLIED_OFFSET_HEADER]
        offset = int(told[0]) if told else NOT_SAID
    return Change(user_id, update, offset, record.partition, record.timestamp)
