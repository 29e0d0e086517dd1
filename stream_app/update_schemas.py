"""The Avro schemas of an update: float32 or float16 vectors, without or with several interests.

All four ship beside this file. Single-object encoding names the writer's schema by its CRC-64-AVRO
fingerprint (little-endian) behind the two bytes C3 01. A schema that is in use is never changed:
what comes later gets a file of its own, with the same record name, so that Avro resolves one into
the other, and is written only where it is asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form


@dataclass(frozen=True)
class UpdateSchema:
    """One of the files."""

    file: str
    parsed: dict[str, Any]
    prefix: bytes
    """The ten bytes that single-object encoding puts before a record."""
    half: bool
    """Whether vectors are float16 bytes; an array of float otherwise."""
    interests: bool
    """Whether an array of vectors, one per interest, stands at its end."""


def _load(file: str, *, half: bool, interests: bool = False) -> UpdateSchema:
    schema = json.loads(resources.files("stream_app").joinpath(file).read_text())
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    parsed = cast(dict[str, Any], fastavro.parse_schema(schema))
    return UpdateSchema(file, parsed, b"\xc3\x01" + bytes.fromhex(crc), half, interests)


PLAIN = _load("update.avsc", half=False)
PLAIN16 = _load("update16.avsc", half=True)
WITH_INTERESTS = _load("update-interests.avsc", half=False, interests=True)
WITH_INTERESTS16 = _load("update16-interests.avsc", half=True, interests=True)

BY_PREFIX = {schema.prefix: schema for schema in (PLAIN, PLAIN16, WITH_INTERESTS, WITH_INTERESTS16)}
