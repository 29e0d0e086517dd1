"""Silent users expire before, during and after a fault, and every window is as if they had not."""

from __future__ import annotations

import random

import pytest

from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.fault import Fault
from tests.harness.faults import disk_faults, worker_faults
from tests.harness.load import BASE_MS, Load, event_message
from tests.harness.scene import Scene

pytestmark = pytest.mark.faults

EXPIRING: dict[str, object] = {"window_max_age_ms": 60_000, "window_expiry_ms": 60_000}
"""The load goes by at an event a second, 200 users take turns: of two events of a user every second
lies further than two minutes apart, so begins anew; and whoever is silent for three is swept."""
LOAD = Load(events=20_000, users=200, items=60, late=0, hopeless=0)
"""Only events later than ``window_expiry_ms`` would see whether a sweep came before them."""


def clock(number: int) -> Message:
    """Return an event of somebody new, ten seconds after the load."""
    time_ms = BASE_MS + LOAD.events * 1_000 + 10_000
    event = {"event_id": "tick", "user_id": f"clock-{number}", "type": "view", "item_id": "item-1"}
    return event_message(event | {"time_ms": time_ms})


@pytest.mark.parametrize(
    "inflict", [worker_faults.kill, disk_faults.wiped], ids=["kill", "kill-and-wipe"]
)
def test_windows_are_exact_while_silent_users_expire(
    inflict: Fault, make_stream: StreamMaker
) -> None:
    stream = make_stream(**EXPIRING)
    stream.publish(LOAD.catalogue())
    workers = stream.start_workers(1)
    stream.watch_commits()
    feeder = stream.feed(LOAD.messages(), over_s=5)
    feeder.wait_for(0.3)
    workers[0].wait_counts("expired", 50)
    inflict(Scene(stream, workers, feeder), random.Random(7))
    feeder.finish()
    stream.drain()
    stream.send([clock(number) for number in range(32)])  # all is committed now, and time goes on
    stream.drain()
    stream.wait_swept()
    reference = stream.verify(swept=True)
    assert len(reference.expired) > 20
    assert stream.counts()["expired"] > 0, "since the last start, too"
