"""What a user wrote about themselves is in no topic but the one it came from, and on no disk."""

from __future__ import annotations

import pytest

from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.load import event_message

pytestmark = pytest.mark.broker

SECRETS = ("anna@example.org", "+49 30 1234567", "4111 1111 1111 1111")
USER = "user-7f3a"
TEXT = "mail {}, ring {}, pay with {}".format(*SECRETS)


def test_nothing_is_stored_unmasked(make_stream: StreamMaker) -> None:
    stream = make_stream(partitions=1)
    refused = Message(
        b"user-c9d2", b'{"event_id": "x", "user_id": "user-c9d2", "text": "%b"' % TEXT.encode()
    )
    stream.send(
        [
            event_message({"event_id": "a", "user_id": USER, "type": "search", "text": TEXT}),
            event_message({"event_id": "b", "user_id": USER, "type": "review", "text": TEXT}),
            refused,
        ]
    )
    (worker,) = stream.start_workers(1)
    stream.drain()
    stream.stop_workers()
    dead_letters = stream.client.read(stream.settings.dead_letters_topic)
    stored = [
        *(record.value or b"" for record in stream.changelog()),
        *(record.value or b"" for record in stream.updates()),
        *(record.value or b"" for record in dead_letters),
        *(path.read_bytes() for path in worker.datadir.rglob("*") if path.is_file()),
    ]
    log = worker.log.read_text()
    assert not any(word in log for word in (USER, "user-c9d2", "mail "))
    for secret in SECRETS:
        assert not any(secret.encode() in data for data in stored), secret
    assert sum(b"mail [email], ring [phone], pay with [card]" in data for data in stored) >= 3
