"""With a key for pseudonyms nothing but the events topic knows who the users are."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from state.pseudonyms import Pseudonyms
from tests.broker.test_command_line import command
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.api import start_with_api
from tests.harness.client import Message
from tests.harness.load import event_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

USERS = [f"user-{number:04}" for number in range(40)]


def view(user: str, item: str) -> Message:
    return event_message(
        {"event_id": f"{item}-{secrets.token_hex(4)}", "user_id": user, "type": "view",
         "item_id": item}
    )  # fmt: skip


def test_whoever_has_the_key_finds_users_and_nothing_else_names_them(
    make_stream: StreamMaker, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(16) + "\n")
    stream = make_stream(pseudonym_key_file=str(key), log_level="debug", partitions=3)
    of = Pseudonyms(key.read_text().strip()).of
    stream.send([view(user, item) for item in ("a", "b") for user in USERS])
    stream.send([Message(b"user-bad", b"{}")])
    api = start_with_api(stream)
    api.worker.wait_running()
    stream.drain()
    assert api.of_user(USERS[0], "interest").said["user_id"] == USERS[0]
    assert api.of_user(of(USERS[0]), "interest").status == 404, "no pseudonym of a pseudonym"

    windows = checks.windows_in(stream.changelog())
    assert set(windows) == set(map(of, USERS)) == set(checks.last_per_key(stream.updates()))
    assert [each["item_id"] for each in windows[of(USERS[1])]["held"]] == ["a", "b"]
    stream.stop_workers()
    _named_nowhere(stream, api.worker.log)
    assert b"user-bad" not in api.worker.log.read_bytes()

    _found_by_commands(stream)
    api.worker.start().wait_running()  # on its disk, against the log its windows were made of
    forgotten = command(
        stream, "forget", USERS[3], "--check", INTEREST_DATADIR=str(api.worker.datadir)
    )
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    assert of(USERS[3]) not in checks.windows_in(stream.changelog())
    stream.stop_workers()

    key.write_text(secrets.token_hex(16) + "\n")
    refused = stream.worker()
    assert refused.wait() == 2
    assert "pseudonym_key_file has changed" in refused.log.read_text()


def _named_nowhere(stream: Stream, log: Path) -> None:
    stored = [
        *((record.key or b"") + (record.value or b"") for record in stream.changelog()),
        *((record.key or b"") + (record.value or b"") for record in stream.updates()),
        *(path.read_bytes() for path in log.parent.rglob("*") if path.is_file()),
        log.read_bytes(),
    ]
    for user in USERS:
        assert not any(user.encode() in data for data in stored), user


def _found_by_commands(stream: Stream) -> None:
    inspected = command(stream, "inspect", "user", USERS[2], "--json")
    assert inspected.returncode == 0, inspected.stderr
    assert [event["item_id"] for event in json.loads(inspected.stdout)["window"]] == ["b", "a"]
    for arguments, vectors in (((), 2), (("--users", USERS[2]), 1)):
        verified = command(stream, "replay", "--verify", "--json", *arguments)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        found = json.loads(verified.stdout)
        assert found["vectors"] >= vectors
        assert found["differences"] == []
        assert found["windows"] >= vectors
