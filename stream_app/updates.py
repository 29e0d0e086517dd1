"""The bytes of an update, as JSON (default) or Avro single-object encoding, and its headers.

Avro: a schema's ten bytes (``update_schemas``), then the record. Vectors are float32, so JSON and
Avro carry the same numbers. An update with several interests has a schema of its own; one without
is, to the byte, what it was before there were any.

With float16 vectors (a setting, or what a bundle says) a vector is its bytes, two per number,
little-endian: in JSON as base64 with ``schema_version`` 2, in Avro as ``bytes`` by the schema
``update16.avsc``. As decimal digits they would be hardly shorter than float32.
"""

from __future__ import annotations

import struct
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from encoders.config import VectorFormat
from stream_app import update_schemas
from stream_app.avro_cursor import AvroCursor
from stream_app.errors import FixData
from stream_app.update_schemas import UpdateSchema

SCHEMA_VERSION = 1
FLOAT16_SCHEMA_VERSION = 2
JSON_TYPE = b"application/json"
AVRO_TYPE = b"application/vnd.apache.avro+single-object"

UpdateFormat = Literal["json", "avro"]
Vector = npt.NDArray[np.float32]


class Update(msgspec.Struct, frozen=True, gc=False):
    """What a reader gets: a user's interest after the source record at ``applied_offset``.

    The cycle collector passes over it (``gc=False``): it refers to nothing that could refer back,
    and a reader holds one per user.
    """

    user_id: str
    vector: Sequence[float]
    """float32 numbers; decoded ones are an ``array("f")``, four bytes each, of which ``np.asarray``
    makes a numpy array without a copy. Nobody should write to it."""
    model_id: str
    time_ms: int
    """Of the newest event in the window, milliseconds since the epoch."""
    topic: str
    partition: int
    applied_offset: int
    event_count: int
    """Events in the window the vector was made from."""
    weights: dict[str, float] = {}
    """Of each granularity in the fusion."""
    granularities: dict[str, Sequence[float]] = {}
    """Each granularity's own vector, where ``publish_granularities`` is set."""
    schema_version: int = SCHEMA_VERSION
    interests: tuple[Sequence[float], ...] = ()
    """One vector per interest, where ``publish_interests`` is set and the model has them."""


class _JsonUpdate(Update, frozen=True, gc=False):
    """An update as its JSON says it: vectors are numbers, or base64 of float16."""

    vector: tuple[float, ...] | str  # type: ignore[assignment]
    granularities: dict[str, tuple[float, ...] | str] = {}  # type: ignore[assignment]
    interests: tuple[tuple[float, ...] | str, ...] = ()  # type: ignore[assignment]


def zigzag(number: int) -> bytes:
    """Return Avro's variable-length zig-zag encoding of a long."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _avro_string(text: str) -> bytes:
    data = text.encode()
    return zigzag(len(data)) + data


class UpdateEncoder:
    """Encodes the updates of one model and source topic; what never changes is encoded once."""

    def __init__(
        self,
        update_format: UpdateFormat,
        model_id: str,
        topic: str,
        granularities: Sequence[str],
        weights: Sequence[float],
        vectors: VectorFormat = "float32",
    ) -> None:
        self._half = vectors == "float16"
        self._schema_version = FLOAT16_SCHEMA_VERSION if self._half else SCHEMA_VERSION
        self._avro = update_schemas.PLAIN16 if self._half else update_schemas.PLAIN
        self._avro_with_interests = (
            update_schemas.WITH_INTERESTS16 if self._half else update_schemas.WITH_INTERESTS
        )
        self._avro_vector = _avro_float16 if self._half else _avro_floats
        self.content_type = JSON_TYPE if update_format == "json" else AVRO_TYPE
        self._json = update_format == "json"
        self._model_id = model_id
        self._topic = topic
        self._names = tuple(granularities)
        self._weights = dict(zip(granularities, weights, strict=True))
        self._fixed_headers = (
            ("content-type", self.content_type),
            ("model_id", model_id.encode()),
        )
        self._avro_model_and_weights = _avro_string(model_id), self._avro_weights()

    def headers(self, applied_offset: int) -> list[tuple[str, bytes]]:
        """Return the record headers of an update or a tombstone."""
        return [*self._fixed_headers, ("applied_offset", b"%d" % applied_offset)]

    def encode(
        self,
        user_id: str,
        vector: Vector,
        granularities: Vector | None,
        time_ms: int,
        partition: int,
        applied_offset: int,
        event_count: int,
        interests: Vector | None = None,
    ) -> bytes:
        """Return the update's bytes. ``vector``: float32 [D]; ``granularities``: [G, D] or None;
        ``interests``: [K, D] or None."""
        if self._json:
            update = {
                "schema_version": self._schema_version,
                "user_id": user_id,
                "vector": self._json_vector(vector),
                "model_id": self._model_id,
                "time_ms": time_ms,
                "topic": self._topic,
                "partition": partition,
                "applied_offset": applied_offset,
                "event_count": event_count,
                "weights": self._weights,
            }
            if granularities is not None:
                each = [self._json_vector(part) for part in granularities]
                update["granularities"] = dict(zip(self._names, each, strict=True))
            if interests is not None:
                update["interests"] = [self._json_vector(part) for part in interests]
            return orjson.dumps(update, option=orjson.OPT_SERIALIZE_NUMPY)
        schema = self._avro if interests is None else self._avro_with_interests
        model, weights = self._avro_model_and_weights
        return b"".join(
            (
                schema.prefix,
                zigzag(self._schema_version),
                _avro_string(user_id),
                self._avro_vector(vector),
                model,
                zigzag(time_ms),
                _avro_string(self._topic),
                zigzag(partition),
                zigzag(applied_offset),
                zigzag(event_count),
                weights,
                self._avro_granularities(granularities),
                b"" if interests is None else self._avro_interests(interests),
            )
        )

    def _json_vector(self, vector: Vector) -> Vector | str:
        return b64encode(_float16(vector)).decode() if self._half else vector

    def _avro_weights(self) -> bytes:
        if not self._weights:
            return b"\x00"
        rows = b"".join(
            _avro_string(name) + np.float32(weight).tobytes()
            for name, weight in self._weights.items()
        )
        return zigzag(len(self._weights)) + rows + b"\x00"

    def _avro_granularities(self, granularities: Vector | None) -> bytes:
        if granularities is None:
            return b"\x00"
        rows = b"".join(
            _avro_string(name) + self._avro_vector(vector)
            for name, vector in zip(self._names, granularities, strict=True)
        )
        return zigzag(len(self._names)) + rows + b"\x00"

    def _avro_interests(self, interests: Vector) -> bytes:
        if not len(interests):
            return b"\x00"
        rows = b"".join(self._avro_vector(vector) for vector in interests)
        return zigzag(len(interests)) + rows + b"\x00"


def _avro_floats(vector: Vector) -> bytes:
    """Return an Avro array of float: one block, then the end mark."""
    if not len(vector):
        return b"\x00"
    return zigzag(len(vector)) + vector.astype("<f4", copy=False).tobytes() + b"\x00"


def _avro_float16(vector: Vector) -> bytes:
    """Return Avro bytes: their count, then two per number."""
    data = _float16(vector)
    return zigzag(len(data)) + data


def _float16(vector: Vector) -> bytes:
    return vector.astype("<f2").tobytes()


def _from_float32(data: bytes) -> array[float]:
    numbers = array("f")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _from_float16(data: bytes) -> array[float]:
    return _from_float32(np.frombuffer(data, "<f2").astype("<f4").tobytes())


def _of_digits(numbers: Sequence[float]) -> bytes:
    """A JSON text names a float32 by its shortest digits; Avro carries the float32 itself."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _of_json(said: _JsonUpdate) -> Update:
    def exact(numbers: tuple[float, ...] | str) -> array[float]:
        if isinstance(numbers, str):
            return _from_float16(b64decode(numbers, validate=True))
        return _from_float32(_of_digits(numbers))

    weights = exact(tuple(said.weights.values()))
    return Update(
        said.user_id, exact(said.vector), sys.intern(said.model_id), said.time_ms,
        sys.intern(said.topic), said.partition, said.applied_offset, said.event_count,
        dict(zip(said.weights, weights, strict=True)),
        {name: exact(each) for name, each in said.granularities.items()}, said.schema_version,
        tuple(map(exact, said.interests)),
    )  # fmt: skip


def _of_avro(value: bytes, schema: UpdateSchema) -> Update:
    cursor = AvroCursor(value, len(schema.prefix))

    def vector() -> array[float]:
        if schema.half:
            return _from_float16(cursor.byte_string())
        return _from_float32(cursor.float32_array())

    schema_version = cursor.long()
    update = Update(
        user_id=cursor.string(),
        vector=vector(),
        model_id=sys.intern(cursor.string()),
        time_ms=cursor.long(),
        topic=sys.intern(cursor.string()),
        partition=cursor.long(),
        applied_offset=cursor.long(),
        event_count=cursor.long(),
        weights=cursor.map_of(cursor.float32),
        granularities=cursor.map_of(vector),
        schema_version=schema_version,
        interests=tuple(cursor.array_of(vector)) if schema.interests else (),
    )
    cursor.end()
    return update


_json_decoder = msgspec.json.Decoder(_JsonUpdate)


def decode(value: bytes) -> Update:
    """Return the update in a record value, whichever of the formats it has.

    Raises:
        FixData: the value is neither, or of another schema.
    """
    try:
        if value[:1] == b"{":
            return _of_json(_json_decoder.decode(value))
        schema = update_schemas.BY_PREFIX.get(value[:10])
        if schema is not None:
            return _of_avro(value, schema)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise FixData(f"an update that cannot be read: {error}") from error
    raise FixData(f"an update in an unknown format: it begins with {value[:10].hex()}")
