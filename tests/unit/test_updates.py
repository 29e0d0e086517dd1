"""Updates: both formats say the same, and a reader in another language can read them."""

from __future__ import annotations

import base64
import io
import json
import sys
from importlib import resources
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.config import VectorFormat
from encoders.interface import GRANULARITIES
from stream_app import update_schemas, updates
from stream_app.avro_cursor import AvroCursor
from stream_app.errors import FixData
from stream_app.update_schemas import UpdateSchema
from stream_app.updates import UpdateEncoder, UpdateFormat

WEIGHTS = (0.0, 0.25, 0.25, 0.5)
FORMATS: tuple[UpdateFormat, ...] = ("json", "avro")

VECTORS: tuple[VectorFormat, ...] = ("float32", "float16")

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
halves = st.floats(-1024, 1024, width=16)

GOLDEN = [
    (
        "float32",
        "avro",
        bytes.fromhex(
            "c3011ce7d7382a01ac44020275040000003f000080bf0008636166650e1e696e7465726573742e6576656e"
            "74730412020408776f72640000803e10646f63756d656e740000403f000408776f7264040000003f000080"
            "bf0010646f63756d656e7404000000bf0000803f0000"
        ),
    ),
    (
        "float16",
        "avro",
        bytes.fromhex(
            "c301722cce789662af7f04027508003800bc08636166650e1e696e7465726573742e6576656e7473041202"
            "0408776f72640000803e10646f63756d656e740000403f000408776f726408003800bc10646f63756d656e"
            "740800b8003c00"
        ),
    ),
    (
        "float32",
        "json",
        b'{"schema_version":1,"user_id":"u","vector":[0.5,-1.0],"model_id":"cafe","time_ms":7,'
        b'"topic":"interest.events","partition":2,"applied_offset":9,"event_count":1,'
        b'"weights":{"word":0.25,"document":0.75},'
        b'"granularities":{"word":[0.5,-1.0],"document":[-0.5,1.0]}}',
    ),
    (
        "float16",
        "json",
        b'{"schema_version":2,"user_id":"u","vector":"ADgAvA==","model_id":"cafe","time_ms":7,'
        b'"topic":"interest.events","partition":2,"applied_offset":9,"event_count":1,'
        b'"weights":{"word":0.25,"document":0.75},'
        b'"granularities":{"word":"ADgAvA==","document":"ALgAPA=="}}',
    ),
]
"""Written by the version before updates could have interests."""


def encoder(update_format: UpdateFormat, vectors: VectorFormat = "float32") -> UpdateEncoder:
    return UpdateEncoder(update_format, "cafe", "interest.events", GRANULARITIES, WEIGHTS, vectors)


@pytest.mark.parametrize("update_format", FORMATS)
@given(
    user_id=st.text(max_size=20),
    numbers=st.lists(floats, min_size=1, max_size=9),
    time_ms=st.integers(0, 2**53),
    offset=st.integers(0, 2**62),
)
def test_an_update_survives_its_bytes(
    update_format: UpdateFormat, user_id: str, numbers: list[float], time_ms: int, offset: int
) -> None:
    vector = np.array(numbers, np.float32)
    each = np.stack([vector * scale for scale in (0, 1, -1, 0.5)])
    value = encoder(update_format).encode(user_id, vector, each, time_ms, 3, offset, 50)
    update = updates.decode(value)
    assert (update.user_id, update.time_ms, update.applied_offset) == (user_id, time_ms, offset)
    assert (update.topic, update.partition, update.event_count) == ("interest.events", 3, 50)
    assert np.array_equal(np.array(update.vector, np.float32), vector)
    assert update.weights == dict(zip(GRANULARITIES, WEIGHTS, strict=True))
    for name, wanted in zip(GRANULARITIES, each, strict=True):
        assert np.array_equal(np.array(update.granularities[name], np.float32), wanted)
    assert update.interests == ()


@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("update_format", FORMATS)
@given(
    numbers=st.lists(halves, min_size=1, max_size=9),
    count=st.integers(0, 5),
    with_granularities=st.booleans(),
)
def test_interests_survive_their_bytes(
    update_format: UpdateFormat,
    vectors: VectorFormat,
    numbers: list[float],
    count: int,
    with_granularities: bool,
) -> None:
    vector = np.array(numbers, np.float32)
    several = np.stack([vector, vector * 2, -vector, vector * 0, vector / 2])[:count]
    each = np.stack([vector] * 4) if with_granularities else None
    value = encoder(update_format, vectors).encode("u", vector, each, 7, 3, 9, 50, several)
    update = updates.decode(value)
    wanted = several.astype(vectors).astype(np.float32).tolist()
    assert [list(interest) for interest in update.interests] == wanted
    assert (update.user_id, update.applied_offset, update.event_count) == ("u", 9, 50)
    assert list(update.vector) == vector.astype(vectors).astype(np.float32).tolist()
    assert set(update.granularities) == (set(GRANULARITIES) if with_granularities else set())


@pytest.mark.parametrize(("vectors", "update_format", "golden"), GOLDEN)
def test_an_update_without_interests_has_the_bytes_it_had_before_there_were_any(
    vectors: VectorFormat, update_format: UpdateFormat, golden: bytes
) -> None:
    made = UpdateEncoder(
        update_format, "cafe", "interest.events", ["word", "document"], [0.25, 0.75], vectors
    )
    vector = np.array([0.5, -1], np.float32)
    value = made.encode("u", vector, np.stack([vector, -vector]), 7, 2, 9, 1)
    assert value == golden
    update = updates.decode(golden)
    assert (list(update.vector), update.interests) == ([0.5, -1.0], ())
    found = {name: list(each) for name, each in update.granularities.items()}
    assert found == {"word": [0.5, -1.0], "document": [-0.5, 1.0]}


@pytest.mark.parametrize(
    ("vectors", "before", "after"),
    [
        ("float32", update_schemas.PLAIN, update_schemas.WITH_INTERESTS),
        ("float16", update_schemas.PLAIN16, update_schemas.WITH_INTERESTS16),
    ],
)
def test_avro_resolves_updates_with_and_without_interests_into_each_other(
    vectors: VectorFormat, before: UpdateSchema, after: UpdateSchema
) -> None:
    vector = np.array([0.5, -1], np.float32)
    made = encoder("avro", vectors)
    old = made.encode("u", vector, None, 7, 2, 9, 1)
    new = made.encode("u", vector, None, 7, 2, 9, 1, np.stack([vector, -vector]))
    assert (old[:10], new[:10]) == (before.prefix, after.prefix)

    def read(value: bytes, writer: UpdateSchema, reader: UpdateSchema) -> Any:
        body = io.BytesIO(value[10:])
        found = fastavro.schemaless_reader(body, writer.parsed, reader.parsed)
        assert not body.read()
        return found

    assert read(old, before, after) == {**read(old, before, before), "interests": []}
    whole = read(new, after, after)
    assert len(whole["interests"]) == 2
    del whole["interests"]
    assert read(new, after, before) == whole == read(old, before, before)


def test_interests_in_json_are_lists_or_base64() -> None:
    vector = np.array([0.5, -1], np.float32)
    several = np.stack([vector, -vector])
    plain = json.loads(encoder("json").encode("u", vector, None, 7, 2, 9, 1, several))
    assert (plain["schema_version"], plain["interests"]) == (1, [[0.5, -1.0], [-0.5, 1.0]])
    half = json.loads(encoder("json", "float16").encode("u", vector, None, 7, 2, 9, 1, several))
    assert (half["schema_version"], half["interests"]) == (2, ["ADgAvA==", "ALgAPA=="])


@pytest.mark.parametrize("update_format", FORMATS)
def test_float16_vectors_come_back_rounded_once_and_take_half_the_bytes(
    update_format: UpdateFormat,
) -> None:
    vector = np.random.default_rng(0).normal(0, 0.05, 384).astype(np.float32)
    each = np.stack([vector * scale for scale in (0, 1, -1, 0.5)])
    value = encoder(update_format, "float16").encode("u", vector, each, 7, 3, 9, 50)
    update = updates.decode(value)
    rounded = vector.astype(np.float16)
    assert list(update.vector) == rounded.astype(np.float32).tolist()
    assert (update.user_id, update.applied_offset, update.schema_version) == ("u", 9, 2)
    assert update.weights == dict(zip(GRANULARITIES, WEIGHTS, strict=True))
    for name, wanted in zip(GRANULARITIES, each.astype(np.float16), strict=True):
        assert list(update.granularities[name]) == wanted.astype(np.float32).tolist()
    wide = encoder(update_format).encode("u", vector, each, 7, 3, 9, 50)
    assert len(value) < 0.55 * len(wide)
    assert updates.decode(wide).schema_version == 1


def test_float16_json_is_base64_of_little_endian_numbers() -> None:
    value = encoder("json", "float16").encode(
        "u", np.array([0.5, -1], np.float32), None, 7, 2, 9, 1
    )
    said = json.loads(value)
    assert (said["schema_version"], said["vector"]) == (
        2,
        base64.b64encode(b"\0\x38\0\xbc").decode(),
    )


def test_float16_avro_is_read_by_its_shipped_schema_alone() -> None:
    schema = json.loads(resources.files("stream_app").joinpath("update16.avsc").read_text())
    value = encoder("avro", "float16").encode(
        "u", np.array([0.5, -1], np.float32), None, 7, 2, 9, 1
    )
    crc = fastavro.schema.fingerprint(
        fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO"
    )
    assert value[:10] == b"\xc3\x01" + bytes.fromhex(crc)
    record = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None)
    assert record["vector"] == b"\0\x38\0\xbc"
    assert record["applied_offset"] == 9


def test_json_is_plain_json() -> None:
    value = encoder("json").encode("u", np.array([0.5, -1], np.float32), None, 7, 2, 9, 1)
    assert json.loads(value) == {
        "schema_version": 1,
        "user_id": "u",
        "vector": [0.5, -1.0],
        "model_id": "cafe",
        "time_ms": 7,
        "topic": "interest.events",
        "partition": 2,
        "applied_offset": 9,
        "event_count": 1,
        "weights": dict(zip(GRANULARITIES, WEIGHTS, strict=True)),
    }


def test_avro_is_read_by_the_shipped_schema_alone() -> None:
    schema = fastavro.parse_schema(
        json.loads(resources.files("stream_app").joinpath("update.avsc").read_text())
    )
    value = encoder("avro").encode("u", np.array([0.5, -1], np.float32), None, 7, 2, 9, 1)
    assert value[:2] == b"\xc3\x01"
    record = fastavro.schemaless_reader(io.BytesIO(value[10:]), schema, None)
    assert record["vector"] == [0.5, -1.0]
    assert record["applied_offset"] == 9
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema, record)
    assert written.getvalue() == value[10:]


@pytest.mark.parametrize("schema", update_schemas.BY_PREFIX.values(), ids=lambda each: each.file)
@given(
    user_id=st.text(max_size=20),
    numbers=st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), max_size=200),
    offset=st.integers(-(2**63), 2**63 - 1),
)
def test_what_another_avro_writer_says_is_read_alike(
    schema: UpdateSchema, user_id: str, numbers: list[float], offset: int
) -> None:
    """fastavro writes arrays and maps in blocks of its own choice."""
    each = np.array(numbers, "<f2").tobytes() if schema.half else numbers
    record = {
        "schema_version": 1, "user_id": user_id, "vector": each, "model_id": "cafe", "time_ms": 7,
        "topic": "t", "partition": 3, "applied_offset": offset, "event_count": 2,
        "weights": {"word": 0.5, "document": 0.25}, "granularities": {"word": each},
        "interests": [each, each],
    }  # fmt: skip
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema.parsed, record)
    value = schema.prefix + written.getvalue()
    update = updates.decode(value)
    assert list(update.vector) == list(update.granularities["word"]) == numbers
    assert list(map(list, update.interests)) == ([numbers, numbers] if schema.interests else [])
    assert (update.user_id, update.applied_offset) == (user_id, offset)
    assert update.weights == {"word": 0.5, "document": 0.25}
    with pytest.raises(FixData, match="an update that cannot be read"):
        updates.decode(value[:-1])
    with pytest.raises(FixData, match="left over"):
        updates.decode(value + b"x")


def test_arrays_in_sized_blocks_are_read() -> None:
    """A writer may put an array into several blocks, each with its size in bytes."""
    cursor = AvroCursor(updates.zigzag(-1) + updates.zigzag(4) + np.float32(0.5).tobytes()
                        + updates.zigzag(1) + np.float32(2).tobytes() + b"\0")  # fmt: skip
    assert np.frombuffer(cursor.float32_array(), "<f4").tolist() == [0.5, 2.0]
    cursor.end()


def test_a_vector_is_kept_in_four_bytes_a_number_and_needs_no_copy() -> None:
    value = encoder("json").encode("u", np.ones(384, np.float32), None, 7, 2, 9, 1)
    vector = updates.decode(value).vector
    assert sys.getsizeof(vector) < 384 * 5
    assert np.shares_memory(np.asarray(vector), np.asarray(vector))
    assert np.asarray(vector).dtype == np.float32


def test_a_number_that_no_float32_holds_is_refused() -> None:
    value = encoder("json").encode("u", np.ones(1, np.float32), None, 7, 2, 9, 1)
    with pytest.raises(FixData, match="cannot be read"):
        updates.decode(value.replace(b"[1.0]", b"[1e300]"))


@pytest.mark.parametrize("number", [0, -1, 1, -64, 64, 2**31, -(2**31), 2**62, -(2**63)])
def test_zigzag_is_avros(number: int) -> None:
    wanted = io.BytesIO()
    fastavro.schemaless_writer(wanted, {"type": "long"}, number)
    assert updates.zigzag(number) == wanted.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{",
        b'{"user_id": 1}',
        b"\xc3\x01",
        b"\xc3\x01" + bytes(8),
        encoder("json", "float16")
        .encode("u", np.ones(2, np.float32), None, 7, 2, 9, 1)
        .replace(b"PA", b"**"),
    ],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(FixData, match="an update"):
        updates.decode(value)


def test_a_cut_avro_update_is_refused() -> None:
    value = encoder("avro").encode("u", np.ones(4, np.float32), None, 7, 2, 9, 1)
    with pytest.raises(FixData, match="cannot be read"):
        updates.decode(value[:20])


def test_headers_say_type_model_and_offset() -> None:
    assert encoder("json").headers(5) == [
        ("content-type", b"application/json"),
        ("model_id", b"cafe"),
        ("applied_offset", b"5"),
    ]
