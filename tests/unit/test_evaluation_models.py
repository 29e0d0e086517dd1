"""Which models an evaluation asks, and what it says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

import encoders
from encoders import interest_folder
from encoders.config import EncoderConfig, InterestConfig
from encoders.evaluation.grid import TransformerVariants
from encoders.interface import InterestEncoder
from stream_app.cli.commands import app
from tests.conformance.models import tiny_bert
from tests.harness.bundles import catalogue, source
from tests.harness.clusters import world, write_files

FILES = ["--events", "events.jsonl", "--items", "items.jsonl"]
QUICK = ["--protocol", "leave-last-out", "--out", "report.md"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model, an interest model of another catalogue, and a world in which users search."""
    made = tmp_path_factory.mktemp("models")
    source(made / "interest", tiny_bert(made / "bert"))
    write_files(made, *world(users=12, searches=True))
    return made


def run(folder: Path, *arguments: str, **settings: str) -> Result:
    own = {"INTEREST_TEXT_MODEL": "bert", "INTEREST_DATADIR": str(folder / "data")}
    own |= {f"INTEREST_{name.upper()}": value for name, value in settings.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = CliRunner().invoke(app, [*arguments], env=own)
    assert outcome.exit_code == 0, outcome.exception
    return outcome


def evaluated(folder: Path, *arguments: str, **settings: str) -> dict[str, object]:
    """The report of an evaluation."""
    run(folder, "evaluate", *FILES, *QUICK, *arguments, **settings)
    report: dict[str, object] = json.loads((folder / "report.json").read_bytes())
    return report


def model_id(folder: Path, text_model: Path) -> str:
    config = EncoderConfig(text_model=str(text_model), interest_model=str(folder), slab_rows=1)
    return encoders.build(config).info.model_id


def copy_of(model: Path, folder: Path, **changed: object) -> Path:
    """A folder of the same model whose configuration says something else."""
    shutil.copytree(model, folder)
    said = json.loads((model / "interest.json").read_bytes()) | changed
    (folder / "interest.json").write_text(json.dumps(said))
    return folder


def test_where_no_model_is_named_it_is_that_of_the_catalogue(folder: Path) -> None:
    """Not that of the settings, and without what users wrote."""
    run(folder, "model", "init", "--items", "items.jsonl", "--out", "made", "--json")
    report = evaluated(folder, "--no-grid", interest_model="interest")
    assert report["model"]["model"] == "untrained, of this catalogue"  # type: ignore[index]
    assert report["model"]["text_model"] == "bert"  # type: ignore[index]
    found = report["model"]["model_id"]  # type: ignore[index]
    assert found == model_id(folder / "made", folder / "bert")
    assert found != model_id(folder / "interest", folder / "bert")


def test_a_text_model_that_was_trained_along_is_found(folder: Path, tmp_path: Path) -> None:
    """And the settings' own, which is another one, would be refused."""
    other = tiny_bert(tmp_path / "other", seed=1)
    source(folder / "tuned", other)
    shutil.copytree(other, folder / "tuned" / "text-model")
    report = evaluated(folder, "--no-grid", "--model", "tuned")
    assert report["model"]["text_model"] == "tuned/text-model"  # type: ignore[index]
    assert report["model"]["model_id"] == model_id(folder / "tuned", other)  # type: ignore[index]


def test_every_model_that_is_asked_is_looked_at(folder: Path) -> None:
    """The one beside it only for what it is asked: nothing in the other order of the events."""
    interest = folder / "interest"
    for name, events, hold_out in (("one", 20, "two"), ("other", 30, "one")):
        made = copy_of(interest, folder / name, window_max_events=events)
        (made / "training.json").write_text(json.dumps({"hold_out": hold_out, "split_seed": 0}))
    report = evaluated(folder, "--model", "one", "--also", "other")
    notes = report["notes"]
    assert isinstance(notes, list)
    starts = [
        "one: The model was trained on windows of window_max_events 20",
        "one: The trained model's figures in the other order",
        "other: The model was trained on windows of window_max_events 30",
        "other: Leave-last-out: the model was trained with hold_out 'one'",
    ]
    assert [note[: len(start)] for note, start in zip(notes, starts, strict=True)] == starts


def test_the_model_id_is_that_of_the_very_files(folder: Path) -> None:
    """A worker publishes it, whoever wrote the files."""
    copy_of(folder / "interest", folder / "by-hand")
    assert model_id(folder / "by-hand", folder / "bert") != model_id(
        folder / "interest", folder / "bert"
    )
    report = evaluated(folder, "--no-grid", "--model", "by-hand")
    found = report["model"]["model_id"]  # type: ignore[index]
    assert found == model_id(folder / "by-hand", folder / "bert")


def test_two_evaluations_at_once_do_not_meet(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(text_model=str(folder / "bert"), slab_rows=1)
    texts = tuple(catalogue())
    ours, theirs = (TransformerVariants(config, texts, tmp_path) for _ in range(2))
    wanted, other = (with_weights(ours.config, name) for name in ("word", "sentence"))
    save, meanwhile = interest_folder.save, list[InterestEncoder]()

    def slowly(*written: object) -> None:
        save(*written)  # type: ignore[arg-type]
        monkeypatch.setattr(interest_folder, "save", save)
        meanwhile.append(theirs.make(other))

    monkeypatch.setattr(interest_folder, "save", slowly)
    made = ours.make(wanted)
    assert made.info.weights == wanted.shares()
    assert meanwhile[0].info.weights == other.shares()
    assert [path.name[:10] for path in tmp_path.iterdir()] == ["untrained-"]


def with_weights(config: InterestConfig, name: str) -> InterestConfig:
    return msgspec.structs.replace(config, weights={name: 1.0})
