"""A bundle: everything that serves a model, in one folder that is checked before it is loaded. ::

    bundle.json                  this module's Manifest
    interest.json                the interest model
    interest.safetensors
    metrics.json, training.json  what training measured, and its settings, where it was trained
    text/config.json             the text model: a folder of transformers, or with int8 weights
    text/model.safetensors       (int8.safetensors, see encoders.int8_weights)
    text/tokenizer.json ...

``model_id`` is a hash of content: of weights, configurations and tokenizer, of pooling, the length
at which texts are cut and the vectors' format. Updates carry the same one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from encoders import model_files
from encoders.config import EncoderConfig, VectorFormat
from encoders.errors import BundleInvalid, ModelNotSafe

MANIFEST_FILE = "bundle.json"
TEXT_FOLDER = "text"
INTEREST_FILES = ("interest.json", "interest.safetensors")
METRICS_FILE = "metrics.json"
TRAINING_FILES = (METRICS_FILE, "training.json")
"""They say where a model comes from, and do not change what it is."""
SCHEMA_VERSION = 1

_AGAIN = "copy the bundle again, or export it again"
_SAFE_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
_SHA256 = re.compile("[0-9a-f]{64}")
_HEADER_BYTES = 8
"""A safetensors file begins with the length of its JSON header, a little-endian number."""
_MOST_HEADER_BYTES = 100_000_000
"""What the safetensors library itself refuses to read."""


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a text model was taught by a larger one."""

    teacher_text_id: str
    epochs: int
    texts: int
    seed: int
    cosine: float
    """Mean cosine to the teacher's vectors on texts held out, after the last epoch."""


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bundle was made, and from what."""

    parent_model_id: str
    """Of the models it was made from, as updates would carry it."""
    text_layers: tuple[int, ...]
    """Which of the parent's layers the text model has, from 0."""
    parent_text_layers: int
    catalogue_fingerprint: str = ""
    """Hash of the texts that centred or taught the text model; empty: none were used."""
    distillation: Distillation | None = None
    versions: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``bundle.json`` holds."""

    model_id: str
    dimensions: int
    text_pooling: Literal["mean", "cls", "last"]
    max_text_tokens: int
    weights: Literal["fp32", "int8"]
    """How the text model's weights are stored; they are computed with in fp32."""
    vectors: VectorFormat
    origin: Origin
    files: dict[str, str]
    """SHA-256 of every other file, by its path in the bundle."""
    data_fingerprint: str = ""
    """Of the events that the interest model was trained on; empty: it was not trained."""
    schema_version: int = SCHEMA_VERSION


def is_bundle(folder: Path) -> bool:
    """Tell whether a folder is, or was meant to be, a bundle."""
    return (folder / MANIFEST_FILE).is_file()


def opened(config: EncoderConfig) -> EncoderConfig:
    """Return ``config`` with all that its bundle brings, once that is checked; as it is without.

    Raises:
        BundleInvalid, ModelNotSafe: one line that says what was found and what to do.
    """
    if not config.model:
        return config
    folder = Path(config.model)
    manifest = check(folder)
    return replace(
        config,
        model="",
        text_model=str(folder / TEXT_FOLDER),
        interest_model=str(folder),
        text_pooling=manifest.text_pooling,
        max_text_tokens=manifest.max_text_tokens,
        vectors=manifest.vectors,
    )


def check(folder: Path) -> Manifest:
    """Return the manifest of a bundle all of whose files are there, safe and unchanged.

    Raises:
        BundleInvalid: a file is missing, changed or too many, or the bundle is of another version.
        ModelNotSafe: there is a file in a format that could run code.
    """
    manifest = read_manifest(folder)
    for name in (*INTEREST_FILES, f"{TEXT_FOLDER}/config.json"):
        if name not in manifest.files:
            raise BundleInvalid(f"{folder / MANIFEST_FILE} lists no {name}: {_AGAIN}")
    for name, wanted in manifest.files.items():
        _check_file(folder, name, wanted)
    unlisted = sorted(set(_text_files(folder)) - set(manifest.files))
    if unlisted:
        raise BundleInvalid(
            f"bundle {folder} holds {unlisted[0]}, which {MANIFEST_FILE} does not list: {_AGAIN}"
        )
    found = content_id(folder, manifest)
    if found != manifest.model_id:
        raise BundleInvalid(
            f"bundle {folder} says model_id {manifest.model_id}, its content is {found}: {_AGAIN}"
        )
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return what ``bundle.json`` says, unchecked against the files.

    Raises:
        BundleInvalid: there is none, or it is not of this version.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleInvalid(
            f"{folder} is no bundle: it has no {MANIFEST_FILE}; `interest-stream export` makes one"
        )
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        version = msgspec.json.decode(raw.get("schema_version", b"null"))
        if version != SCHEMA_VERSION:
            raise BundleInvalid(
                f"{path} has schema_version {version}, this version reads {SCHEMA_VERSION}: "
                "export the bundle again"
            )
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleInvalid(f"{path} cannot be read ({error}): {_AGAIN}") from None


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``bundle.json`` with the hashes and the model_id of the files there; return it."""
    names = [name for name in (*INTEREST_FILES, *TRAINING_FILES) if (folder / name).is_file()]
    files = {name: _sha256(folder / name) for name in sorted([*names, *_text_files(folder)])}
    manifest = msgspec.structs.replace(manifest, files=files, model_id=content_id(folder, manifest))
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST_FILE).write_bytes(encoded + b"\n")
    return manifest


def content_id(folder: Path, manifest: Manifest) -> str:
    """Return the model_id of what lies in ``folder``, whatever its manifest says it is."""
    text_id = model_files.text_model_id(
        folder / TEXT_FOLDER,
        max_text_tokens=manifest.max_text_tokens,
        text_pooling=manifest.text_pooling,
    )
    both = b"\0".join((folder / name).read_bytes() for name in INTEREST_FILES)
    return model_files.model_id(text_id, hashlib.sha256(both).hexdigest(), manifest.vectors)


def _check_file(folder: Path, name: str, wanted: str) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not _SHA256.fullmatch(wanted):
        raise BundleInvalid(f"{folder / MANIFEST_FILE} lists {name!r} wrongly: {_AGAIN}")
    if path.suffix not in _SAFE_SUFFIXES:
        raise ModelNotSafe(
            f"bundle {folder} holds {name}, which is not safetensors: export the bundle again"
        )
    if not path.is_file():
        raise BundleInvalid(f"bundle {folder} lacks {name}: {_AGAIN}")
    found = _sha256(path)
    if found != wanted:
        raise BundleInvalid(
            f"bundle {folder}: {name} is not what was exported (SHA-256 {found[:16]}, expected "
            f"{wanted[:16]}): {_AGAIN}"
        )
    if path.suffix == ".safetensors" and not _has_safetensors_header(path):
        raise ModelNotSafe(f"bundle {folder}: {name} is not safetensors: export the bundle again")


def _has_safetensors_header(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_BYTES), "little")
        if not 2 <= length <= min(_MOST_HEADER_BYTES, path.stat().st_size - _HEADER_BYTES):
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _text_files(folder: Path) -> Iterator[str]:
    for path in (folder / TEXT_FOLDER).rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
