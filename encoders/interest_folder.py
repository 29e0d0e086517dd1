"""The folder of an interest model: ``interest.json`` (InterestConfig) and ``interest.safetensors``.

The tensors' names and shapes are those of ``encoders.interest_model``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from encoders.config import InterestConfig
from encoders.context_features import FEATURES
from encoders.errors import InterestModelInvalid
from encoders.interface import MEDIA
from encoders.item_tower import KEY_BYTES
from encoders.sequence_reader import SequenceReader
from encoders.tokens import LEVELS

CONFIG_FILE = "interest.json"
TENSORS_FILE = "interest.safetensors"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class InterestBundle:
    """An interest model as it lies on disk."""

    config: InterestConfig
    tensors: dict[str, torch.Tensor]
    content_id: str
    """Hash over the bytes of both files; of the configuration alone where there is no folder."""

    @classmethod
    def untrained(cls, config: InterestConfig | None = None) -> InterestBundle:
        """The model without a folder: centre zero, uniform salience."""
        config = config or InterestConfig()
        return cls(config, {}, hashlib.sha256(_config_bytes(config)).hexdigest())


def load(folder: Path, *, text_dimensions: int, vocabulary: int, text_id: str) -> InterestBundle:
    """Return the interest model in ``folder``, checked against the text model it will serve.

    Raises:
        InterestModelInvalid: a file is missing or unreadable, a key unknown, a shape wrong, or
            the model was made for another text model.
    """
    for name in (CONFIG_FILE, TENSORS_FILE):
        if not (folder / name).is_file():
            raise InterestModelInvalid(f"interest model folder {folder} has no {name}")
    config_bytes = (folder / CONFIG_FILE).read_bytes()
    tensor_bytes = (folder / TENSORS_FILE).read_bytes()
    try:
        config = msgspec.json.decode(config_bytes, type=InterestConfig)
    except msgspec.MsgspecError as error:
        raise InterestModelInvalid(f"{folder / CONFIG_FILE}: {error}") from None
    try:
        tensors = load_tensors(tensor_bytes)
    except (safetensors.SafetensorError, KeyError) as error:
        raise InterestModelInvalid(f"{folder / TENSORS_FILE} is not safetensors: {error}") from None
    if config.text_model_id and config.text_model_id != text_id:
        raise InterestModelInvalid(
            f"{folder} was made for text model {config.text_model_id[:16]}, this one is "
            f"{text_id[:16]}: set INTEREST_TEXT_MODEL to the text model it was made with, or make "
            "the interest model again"
        )
    if config.schema_version != SCHEMA_VERSION:
        raise InterestModelInvalid(
            f"{folder / CONFIG_FILE} has schema_version {config.schema_version}, this version "
            f"reads {SCHEMA_VERSION}: make the interest model again"
        )
    _check(folder, config, tensors, text_dimensions, vocabulary)
    _check_activation(folder, config, tensors)
    digest = hashlib.sha256(config_bytes + b"\0" + tensor_bytes).hexdigest()
    return InterestBundle(config, tensors, digest)


def save(folder: Path, config: InterestConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Write both files; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSORS_FILE).write_bytes(save_tensors(tensors))
    (folder / CONFIG_FILE).write_bytes(_config_bytes(config))


def _config_bytes(config: InterestConfig) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config, order="deterministic"), indent=2) + b"\n"


def _check(
    folder: Path,
    config: InterestConfig,
    tensors: dict[str, torch.Tensor],
    text_dimensions: int,
    vocabulary: int,
) -> None:
    shapes = _shapes(config, tensors, text_dimensions, vocabulary)
    for name, tensor in tensors.items():
        if name not in shapes:
            raise InterestModelInvalid(f"{folder}: tensor {name!r} is none this version knows")
        if tuple(tensor.shape) != shapes[name]:
            raise InterestModelInvalid(
                f"{folder}: tensor {name} has shape {tuple(tensor.shape)}, expected {shapes[name]}"
            )
        if not torch.isfinite(tensor).all():
            raise InterestModelInvalid(f"{folder}: tensor {name} holds values that are not finite")
    dimensions = config.dimensions or text_dimensions
    trained = [name for name in shapes if name.startswith(("reader.", "tower.g", "tower.s"))]
    absent = [name for name in trained if name not in tensors]
    if absent and (config.sequence is not None or len(absent) < len(trained)):
        raise InterestModelInvalid(f"{folder}: tensor {absent[0]} is missing")
    if not absent and "tower.V" not in tensors:
        raise InterestModelInvalid(f"{folder}: tensor tower.V is missing")
    if ("residual.keys" in tensors) != ("residual.vectors" in tensors):
        raise InterestModelInvalid(f"{folder}: residual.keys and residual.vectors go together")
    read = ("paragraph", "document") if config.sequence is not None else ()
    if config.media_dimensions:
        needed_by_media = ["tower.gain", "media.centre", "media.whiten", "tower.media.V"]
        needed_by_media += [f"{MEDIA}.V"] if MEDIA in config.active else []
        for name in needed_by_media:
            if name not in tensors:
                raise InterestModelInvalid(
                    f"{folder}: tensor {name} is missing, which media_dimensions needs"
                )
    needed = [name for name in config.active if name not in (*read, MEDIA)]
    if not absent:
        needed.append("tower")
    lacking = [name for name in needed if f"{name}.V" not in tensors]
    if dimensions != text_dimensions and lacking:
        raise InterestModelInvalid(
            f"{folder}: dimensions are {dimensions}, the text model has {text_dimensions}: "
            f"that needs a tensor {lacking[0]}.V"
        )


def _check_activation(
    folder: Path, config: InterestConfig, tensors: dict[str, torch.Tensor]
) -> None:
    """A tower means something else with another bend, and the tensors do not tell which it had.

    Towers bent with tanh at first, then with GELU, and neither said so in the file. Those that say
    which windows they were trained on are all of the second kind.
    """
    told = config.tower_activation is not msgspec.UNSET or config.window_max_events > 0
    if "tower.gain" in tensors and not told:
        raise InterestModelInvalid(
            f"{folder} was trained by an early version, whose item tower bent with tanh or with "
            f'gelu, and does not say which: train it again, or add "tower_activation": "tanh" (or '
            f'"gelu") to its {CONFIG_FILE} if you know'
        )


def _shapes(
    config: InterestConfig, tensors: dict[str, torch.Tensor], text_dimensions: int, vocabulary: int
) -> dict[str, tuple[int, ...]]:
    dimensions = config.dimensions or text_dimensions
    active = len(config.active)
    shapes: dict[str, tuple[int, ...]] = {
        "centre": (LEVELS, text_dimensions),
        "salience": (vocabulary,),
        "attention.q": (dimensions,),
        "concat.F": (dimensions, (active + 1) * dimensions),
        "whiten": (LEVELS, text_dimensions, text_dimensions),
        "context.mean": (len(FEATURES),),
        "context.scale": (len(FEATURES),),
        "context.Q": (dimensions, text_dimensions),
        "several.F": (len(tensors.get("several.F", ())), dimensions, dimensions),
        "tower.gain": (dimensions,),
        "tower.shift": (dimensions,),
        "score.scale": (),
        "score.shift": (),
    }
    known = len(tensors.get("residual.vectors", ()))
    shapes |= {"residual.vectors": (known, dimensions), "residual.keys": (known, KEY_BYTES)}
    if config.sequence is not None:
        reader = SequenceReader(config.sequence, dimensions).state_dict()
        shapes |= {f"reader.{name}": tuple(tensor.shape) for name, tensor in reader.items()}
    of_media: tuple[str, ...] = ()
    if config.media_dimensions:
        count = config.media_dimensions
        shapes |= {"media.centre": (count,), "media.whiten": (count, count)}
        of_media = (MEDIA, "tower.media")
    for name in (*config.granularities, "context", "tower", *of_media[1:]):
        width = len(FEATURES) if name == "context" else text_dimensions
        if name in of_media:
            width = config.media_dimensions
        if config.sequence is not None and name in ("paragraph", "document"):
            width = dimensions
        if name == "tower" and tensors.get("tower.V", torch.empty(0)).shape[-1] == LEVELS * width:
            width = LEVELS * width
        hidden = len(tensors[f"{name}.U"]) if f"{name}.U" in tensors else dimensions
        out_bias = "d" if name == "context" else "c"
        shapes[f"{name}.W"] = (dimensions, hidden)
        shapes[f"{name}.U"] = (hidden, width)
        shapes[f"{name}.b"] = (hidden,)
        shapes[f"{name}.V"] = (dimensions, width)
        shapes[f"{name}.{out_bias}"] = (dimensions,)
    return shapes
