"""Events as nobody would wish for them: huge, from the future, of one user, of too many."""

from __future__ import annotations

import json
import random

from tests.harness.client import Message
from tests.harness.fault import FaultSpec
from tests.harness.load import BASE_MS, DAY_MS, POISON_KEY, event_message
from tests.harness.scene import Scene
from tests.harness.stream import Stream

HUGE_BYTES = 10_000_000
NEW_USERS = 100_000
NOON_MS = BASE_MS + DAY_MS // 2
_CHUNK = 10_000


def huge_record(scene: Scene, random_: random.Random) -> None:
    """An event of ten megabytes, ten times what brokers take unless they are told to."""
    send_huge(scene.stream, random_)


def send_huge(stream: Stream, random_: random.Random) -> Message:
    """Have the topic take such a record, and send it."""
    stream.client.alter_topic(
        stream.settings.events_topic, {"max.message.bytes": str(HUGE_BYTES + 100_000)}
    )
    key = POISON_KEY + b"huge-%d" % random_.randrange(10**6)
    event = view("huge", key.decode()) | {"text": "x" * HUGE_BYTES}
    record = Message(key, json.dumps(event).encode())
    stream.send([record])
    return record


def late_and_early(scene: Scene, random_: random.Random) -> None:
    """Users hear from tomorrow, so that all they do today is late; and from the week after."""
    scene.stream.send(untimely(random_))


def untimely(random_: random.Random) -> list[Message]:
    """Return events of hours ahead, which count, and of days ahead, which are dead letters."""
    mark = random_.randrange(10**6)
    early = [
        sent_at_noon(view(f"early-{mark}-{n}", f"user-{n}") | {"time_ms": NOON_MS + DAY_MS // 2})
        for n in range(5)
    ]
    late = [
        sent_at_noon(view(f"late-{mark}-{n}", f"user-{n}") | {"time_ms": BASE_MS - n * DAY_MS})
        for n in range(0, 60, 3)
    ]
    absurd = []
    for n in range(5):
        user = f"{POISON_KEY.decode()}absurd-{mark}-{n}"
        absurd.append(sent_at_noon(view("absurd", user) | {"time_ms": NOON_MS + 7 * DAY_MS}))
    messages = [*early, *late, *absurd]
    random_.shuffle(messages)
    return messages


def sent_at_noon(event: dict[str, object]) -> Message:
    """Return the event as a record of the day of the load's events.

    An event of the year in which the test runs would let all the load's windows expire.
    """
    message = event_message(event)
    return Message(message.key, message.value, timestamp_ms=NOON_MS)


def new_users(scene: Scene, random_: random.Random) -> None:
    """As many users as nobody has heard of, all at once."""
    mark = random_.randrange(10**6)
    send_new_users(scene.stream, NEW_USERS, mark)


def send_new_users(stream: Stream, count: int, mark: int) -> None:
    """Send the first event of each."""
    for start in range(0, count, _CHUNK):
        users = range(start, min(count, start + _CHUNK))
        stream.send([event_message(view(f"{mark}-{n}", f"new-{mark}-{n}")) for n in users])


def nothing(scene: Scene, random_: random.Random) -> None:
    """The load itself is the fault."""


def view(event_id: str, user: str) -> dict[str, object]:
    """Return a good event."""
    return {
        "event_id": event_id,
        "user_id": user,
        "type": "view",
        "item_id": "item-1",
        "time_ms": BASE_MS,
    }


FAULTS = {
    "huge-record": FaultSpec(huge_record, refolds=False),
    "late-and-early": FaultSpec(late_and_early, refolds=False),
    "new-users": FaultSpec(new_users, refolds=False),
    "one-user": FaultSpec(
        nothing,
        told="A million events of one user.",
        load={"users": 1, "events": 1_000_000, "forget": 0.0},
        refolds=False,
    ),
    "mostly-doubled": FaultSpec(
        nothing,
        told="Nine of ten events come twice.",
        load={"doubled": 0.9, "events": 10_000},
        refolds=False,
    ),
    "mostly-poison": FaultSpec(
        nothing,
        told="Nine of ten records are no events.",
        load={"poison": 0.9, "events": 10_000},
        refolds=False,
    ),
}
