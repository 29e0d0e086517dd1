"""A bundle is served as it was exported, or refused with one line before torch is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import encoders
from encoders import BundleInvalid, EncoderConfig, EncoderConfigInvalid, ModelNotSafe
from encoders.evaluation.interactions import from_events
from encoders.evaluation.plan import Plan
from encoders.evaluation.results import Protocol
from encoders.model_bundle import Manifest, check, opened, write_manifest
from encoders.text_encoder import TextEncoder
from encoders.transformer import TransformerEncoder
from stream_app import evaluation_run
from stream_app.settings import Settings
from stream_app.training_notes import training_notes
from tests.conformance.models import tiny_bert, tiny_gpt2
from tests.conformance.windows import some_windows
from tests.harness import bundles

SHAPES = {"bert": tiny_bert, "gpt2": tiny_gpt2}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def parts(shape: str, tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    folder = tmp_path_factory.mktemp(shape)
    return bundles.source(folder / "interest", SHAPES[shape](folder / "text"))


@pytest.fixture(scope="module")
def made(parts: EncoderConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "bundle"
    (Path(parts.interest_model) / "metrics.json").write_text('{"data": {"fingerprint": "ab12"}}')
    (Path(parts.interest_model) / "training.json").write_text('{"hold_out": "one"}')
    bundles.export(bundles.ExportPlan(parts), [], out)
    return out


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def served(folder: Path) -> EncoderConfig:
    return EncoderConfig(model=str(folder), device="cpu", slab_rows=128)


def test_a_bundle_serves_what_its_parts_do_under_the_same_model_id(
    parts: EncoderConfig, made: Path
) -> None:
    texts = list(enumerate(bundles.catalogue(20)))
    ours, theirs = encoders.build(served(made)), encoders.build(parts)
    for encoder in (ours, theirs):
        assert encoder.put_texts(texts).failed == []
    batch = some_windows(6, rows=20)
    assert np.array_equal(ours.encode(batch).vectors, theirs.encode(batch).vectors)
    assert ours.info == theirs.info
    assert ours.info.model_id == check(made).model_id == check(made).origin.parent_model_id


def test_a_bundle_says_what_it_is_and_where_it_comes_from(shape: str, made: Path) -> None:
    manifest = check(made)
    assert manifest.text_pooling == {"bert": "mean", "gpt2": "last"}[shape]
    assert (manifest.dimensions, manifest.max_text_tokens) == (32, 256)
    assert (manifest.weights, manifest.vectors) == ("fp32", "float32")
    assert (manifest.origin.text_layers, manifest.origin.parent_text_layers) == ((0, 1), 2)
    assert manifest.data_fingerprint == "ab12"
    records = {"metrics.json", "training.json"}
    assert {"interest.json", "text/tokenizer.json"} | records < set(manifest.files)


def test_an_evaluation_knows_how_a_bundle_was_trained(made: Path, copy: Path) -> None:
    asked = Protocol("leave_last_out", "", "random", 0, 1, 1, [])
    said = training_notes(made, Plan(), [asked])
    assert "hold_out 'one'" in said[0]
    (copy / "training.json").unlink()
    assert "no readable training.json" in training_notes(copy, Plan(), [asked])[0]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def listed_as_it_is(folder: Path, **changed: object) -> None:
    """Write the manifest anew for files somebody has changed, as a tool of theirs would."""
    said = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=Manifest)
    write_manifest(folder, msgspec.structs.replace(said, **changed))


def without_weights(folder: Path) -> None:
    (folder / "text" / "model.safetensors").unlink()


def weights_of_another_run(folder: Path) -> None:
    flipped(folder / "text" / "model.safetensors")


def interest_of_another_run(folder: Path) -> None:
    flipped(folder / "interest.safetensors")


def other_pooling(folder: Path) -> None:
    said = json.loads((folder / "bundle.json").read_text())
    said["text_pooling"] = "cls"
    (folder / "bundle.json").write_text(json.dumps(said))


def one_file_more(folder: Path) -> None:
    (folder / "text" / "extra.safetensors").write_bytes(b"")


def of_a_later_version(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"schema_version": 9, "something": "new"}')


def cut_manifest(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"schema_version": 1, "model_id"')


def no_manifest(folder: Path) -> None:
    (folder / "bundle.json").unlink()


def outside_itself(folder: Path) -> None:
    said = json.loads((folder / "bundle.json").read_text())
    said["files"]["../secret.json"] = "0" * 64
    (folder / "bundle.json").write_text(json.dumps(said))


def pickled_weights(folder: Path) -> None:
    (folder / "text" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    listed_as_it_is(folder)


def weights_by_name_only(folder: Path) -> None:
    (folder / "text" / "model.safetensors").write_bytes(b"\x80\x04 no tensors at all")
    listed_as_it_is(folder)


DAMAGES: list[tuple[Callable[[Path], None], type[Exception], str]] = [
    (without_weights, BundleInvalid, "lacks text/model.safetensors: copy the bundle again"),
    (weights_of_another_run, BundleInvalid, "text/model.safetensors is not what was exported"),
    (interest_of_another_run, BundleInvalid, "interest.safetensors is not what was exported"),
    (other_pooling, BundleInvalid, "its content is"),
    (one_file_more, BundleInvalid, "holds text/extra.safetensors, which bundle.json does not"),
    (of_a_later_version, BundleInvalid, "schema_version 9, this version reads 1"),
    (cut_manifest, BundleInvalid, "bundle.json cannot be read"),
    (no_manifest, BundleInvalid, "it has no bundle.json; `interest-stream export` makes one"),
    (outside_itself, BundleInvalid, "'../secret.json' wrongly"),
    (pickled_weights, ModelNotSafe, "holds text/pytorch_model.bin, which is not safetensors"),
    (weights_by_name_only, ModelNotSafe, "text/model.safetensors is not safetensors"),
]


@pytest.mark.parametrize(
    ("damage", "error", "says"), DAMAGES, ids=[d.__name__ for d, *_ in DAMAGES]
)
def test_a_damaged_bundle_is_refused_with_one_line(
    damage: Callable[[Path], None], error: type[Exception], says: str, copy: Path
) -> None:
    damage(copy)
    with pytest.raises(error) as caught:
        opened(served(copy))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_refusal_comes_before_torch_is_loaded(copy: Path) -> None:
    flipped(copy / "interest.safetensors")
    code = (
        "import sys, encoders\n"
        "try:\n"
        f"    encoders.build(encoders.EncoderConfig(model={str(copy)!r}))\n"
        "except encoders.BundleInvalid:\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_bundle_brings_all_that_changes_a_vector(made: Path) -> None:
    config = opened(replace(served(made), max_text_tokens=8, vectors="float16"))
    assert (config.max_text_tokens, config.vectors) == (256, "float32")
    assert config.text_pooling in ("mean", "last")


def test_whoever_loads_a_model_gets_that_of_the_bundle(parts: EncoderConfig, made: Path) -> None:
    assert TextEncoder(served(made)).content_id == TextEncoder(parts).content_id
    assert TransformerEncoder(served(made)).info.model_id == check(made).model_id
    data = from_events([], {"item": "a text"})
    config = evaluation_run._with_rows(Settings(), data, made)
    assert (config.text_model, config.interest_model) == (str(made / "text"), str(made))
    unnamed = evaluation_run._with_rows(Settings(model=str(made)), data, None)
    assert (unnamed.model, unnamed.text_model, unnamed.interest_model) == ("", "", "")
    other = evaluation_run._with_rows(Settings(model=str(made)), data, Path(parts.interest_model))
    assert (other.model, other.interest_model) == ("", parts.interest_model)


def test_a_bundle_and_a_model_beside_it_are_refused(made: Path) -> None:
    with pytest.raises(EncoderConfigInvalid, match="leave text_model and interest_model empty"):
        EncoderConfig(model=str(made), text_model="minilm")
    with pytest.raises(EncoderConfigInvalid, match="takes no model"):
        encoders.build(EncoderConfig(kind="stub", model=str(made)))


def test_vectors_in_another_format_are_another_model(made: Path, copy: Path) -> None:
    listed_as_it_is(copy, vectors="float16")
    assert check(copy).model_id != check(made).model_id
