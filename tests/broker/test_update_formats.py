"""JSON and Avro say the same, and need nothing of ours to be read."""

from __future__ import annotations

import io
import json
from importlib import resources
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from stream_app import updates
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.client import Record
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker


def by_plain_avro(record: Record, schema: Any) -> dict[str, Any]:
    """Return an update in Avro's single-object encoding, as its specification says it."""
    assert record.headers["content-type"] == b"application/vnd.apache.avro+single-object"
    value = record.value or b""
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    assert value[:10] == b"\xc3\x01" + bytes.fromhex(crc)
    body = io.BytesIO(value[10:])
    found: Any = fastavro.schemaless_reader(body, fastavro.parse_schema(schema), None)
    assert not body.read()
    return dict(found)


def last_updates(stream: Stream) -> dict[str, Record]:
    return {
        user: record
        for user, record in checks.last_per_key(stream.updates()).items()
        if record.value is not None
    }


def test_avro_updates_say_what_json_ones_say(make_stream: StreamMaker) -> None:
    """Two workers of two groups on the same events, one of each format.

    One is asked for interests, which its model does not have: it says so, and nothing changes.
    """
    load = Load(events=500, users=40)
    as_json = make_stream(publish_granularities=True)
    shared = {
        "events_topic": as_json.settings.events_topic,
        "items_topic": as_json.settings.items_topic,
    }
    as_avro = make_stream(
        publish_granularities=True, publish_interests=True, update_format="avro", **shared
    )
    as_json.publish(load.catalogue())
    as_json.send(load.messages())
    for stream in (as_json, as_avro):
        stream.worker()
    as_json.verify()
    as_avro.drain()
    as_avro.stop_workers()
    told = "has one vector per user: updates carry no interests"
    assert as_avro.workers[0].said(told)
    assert not as_json.workers[0].said(told)

    schema = json.loads(resources.files("stream_app").joinpath("update.avsc").read_text())
    told_json, told_avro = last_updates(as_json), last_updates(as_avro)
    assert set(told_json) == set(told_avro)
    for user, record in told_json.items():
        plain = json.loads(record.value or b"")
        avro = by_plain_avro(told_avro[user], schema)
        for name in ("vector", "weights", "granularities"):
            assert _float32(avro.pop(name)) == _float32(plain.pop(name))
        assert avro == plain
        assert updates.decode(record.value or b"") == updates.decode(told_avro[user].value or b"")


def _float32(numbers: Any) -> Any:
    if isinstance(numbers, dict):
        return {name: _float32(each) for name, each in numbers.items()}
    return checks.as_float32(numbers if isinstance(numbers, list) else [numbers])
