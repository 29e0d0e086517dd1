"""`interest-stream export`: from files to a bundle and a table, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

import encoders
from encoders import model_bundle
from encoders.config import EncoderConfig, InterestConfig
from encoders.errors import EncoderError
from encoders.evaluation.interactions import in_time_order
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.ranking import ask
from encoders.evaluation.splits import leave_last_out
from encoders.model_bundle import Manifest, Origin
from encoders.shipping import comparison
from encoders.shipping.comparison import Line, Speed
from state.window import WindowPolicy
from stream_app import export_table, model_export
from stream_app.cli.commands import app
from stream_app.errors import FixSettings, InterestStreamError
from stream_app.evaluation_data import file_interactions
from stream_app.settings import Settings
from tests.conformance.models import tiny_bert
from tests.harness.bundles import catalogue, source
from tests.harness.documents import ROOT

VARIANTS = ("parent", "float16", "int8", "cropped", "distilled", "distilled-int8-float16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    source(folder / "interest", tiny_bert(folder / "text"), InterestConfig(window_max_events=20))
    trained = {"hold_out": "one", "split_seed": 5}
    (folder / "interest" / "training.json").write_text(json.dumps(trained))
    lines = [{"item_id": f"i{n}", "text": text} for n, text in enumerate(catalogue())]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [
        {"event_id": f"{user}-{n}", "user_id": f"u{user}", "type": "view",
         "item_id": f"i{(user * 7 + n * 3) % 80}", "time_ms": 1_700_000_000_000}
        for user in range(40) for n in range(5)
    ]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events))
    return folder


def run(folder: Path, *arguments: str) -> tuple[str, BaseException | None]:
    outcome = CliRunner().invoke(
        app,
        ["export", "--model", str(folder / "interest"), "--text-model", str(folder / "text"),
         *arguments],
    )  # fmt: skip
    return outcome.stdout, outcome.exception


def test_a_bundle_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    said, error = run(folder, "--out", str(out), "--int8", "--vectors", "float16", "--json")
    assert error is None
    manifest = model_bundle.check(out)
    assert json.loads(said)["model_id"] == manifest.model_id
    assert (manifest.weights, manifest.vectors) == ("int8", "float16")
    cropped = ["--crop-layers", "1", "--items", str(folder / "items.jsonl")]
    said, error = run(folder, "--out", str(tmp_path / "cropped"), *cropped)
    assert error is None
    assert model_bundle.check(tmp_path / "cropped").origin.text_layers == (0,)
    assert "interest-stream worker --model" in said


def test_a_text_model_that_was_trained_goes_with_its_interest_model(
    folder: Path, tmp_path: Path
) -> None:
    wanted = model_export.Wanted(folder / "interest", tmp_path / "out")
    assert model_export.source_of(Settings(), wanted).text_model == ""
    model = tmp_path / "trained"
    (model / "text-model").mkdir(parents=True)
    wanted = model_export.Wanted(model, tmp_path / "out")
    assert model_export.source_of(Settings(), wanted).text_model == str(model / "text-model")
    wanted = model_export.Wanted(model, tmp_path / "out", text_model="minilm")
    assert model_export.source_of(Settings(), wanted).text_model == "minilm"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--crop-layers", "1"], "name the items"),
        (["--crop-layers", "9", "--items", "items.jsonl"], "a number from 1 to 2"),
        (["--compare"], "give --items or --dataset ml-1m"),
        (["--compare", "--items", "items.jsonl", "--page", "no.md"], "no.md has no lines"),
        (["--compare", "--dataset", "ml-1m", "--items", "items.jsonl"], "not both"),
        (["--compare", "--events", "events.jsonl"], "give --items"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(folder)
    _, error = run(folder, "--out", str(tmp_path / "out"), *arguments)
    assert isinstance(error, (InterestStreamError, EncoderError))
    assert says in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "out").exists()


def test_a_bundle_brings_its_text_model(folder: Path, tmp_path: Path) -> None:
    run(folder, "--out", str(tmp_path / "bundle"))
    wanted = model_export.Wanted(tmp_path / "bundle", tmp_path / "out", text_model="minilm")
    with pytest.raises(FixSettings, match="leave --text-model out"):
        model_export.source_of(Settings(), wanted)
    with pytest.raises(FixSettings, match="nothing to export"):
        model_export.source_of(Settings(encoder="stub"), wanted)


def test_one_command_makes_and_measures_every_kind(folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "variants", tmp_path / "page.md"
    page.write_text(
        f"before\n\n{export_table.BEGIN}\n\nwhat stood there\n\n{export_table.END}\n\nafter\n"
    )
    said, error = run(
        folder, "--compare", "--out", str(out), "--page", str(page), "--rounds", "2",
        "--items", str(folder / "items.jsonl"), "--events", str(folder / "events.jsonl"),
        "--distil-epochs", "1",
    )  # fmt: skip
    assert error is None
    summary = json.loads(said.splitlines()[-1])
    names = list(VARIANTS)
    assert list(summary) == names
    for name in names:
        assert summary[name]["model_id"] == model_bundle.check(out / name).model_id
        assert {"recall@10", "ndcg@10"} < set(summary[name])
    parent, int8, half = (summary[name] for name in ("parent", "int8", "float16"))
    assert (parent["cosine"], parent["neighbours@10"]) == (pytest.approx(1.0), 1.0)
    assert parent["texts_per_s_ratio"] == 1.0
    assert int8["text_model_bytes"] < parent["text_model_bytes"]
    assert half["neighbours@10"] > int8["neighbours@10"] > summary["cropped"]["neighbours@10"]
    origin = model_bundle.check(out / names[-1]).origin
    assert origin.parent_model_id == summary["distilled"]["model_id"]
    written = page.read_text()
    assert (
        written
        == f"before\n\n{export_table.BEGIN}\n\n{(out / 'comparison.md').read_text()}\n"
        + (f"{export_table.END}\n\nafter\n")
    )
    assert "what stood there" not in written
    assert (
        f"\n{folder / 'interest'}: Leave-last-out: the model was trained with hold_out 'one'"
        in (written)
    )
    assert "window_max_events 20, these have 50" in written
    assert "other order" not in written
    said_again = json.loads((out / "comparison.json").read_text())
    assert [one["name"] for one in said_again["bundles"]] == names
    assert said_again["users_asked"] == 40
    ranked = {seed: ndcg(folder, out / "parent", seed) for seed in (0, 5)}
    assert parent["ndcg@10"] == pytest.approx(ranked[5], abs=1e-6)
    assert ranked[0] != pytest.approx(ranked[5], abs=1e-3), "the order of ties makes a difference"


def ndcg(folder: Path, bundle: Path, seed: int) -> float:
    """Of a bundle, where events of the same time are in the order of a seed."""
    files = (folder / "events.jsonl", folder / "items.jsonl")
    data = in_time_order(file_interactions(*files, Settings()), seed=seed)
    encoder = encoders.build(EncoderConfig(model=str(bundle), slab_rows=len(data.texts)))
    put_texts(encoder, data)
    result = ask(InterestScorer(encoder, data, WindowPolicy()), leave_last_out(data))
    return float(result.values["ndcg@10"].mean())


def line(name: str, ratio: float) -> Line:
    origin = Origin("parent", (0, 2), 3)
    manifest = Manifest("id", 32, "mean", 256, "int8", "float16", origin, {})
    speed = Speed(ratio, ratio - 0.1, ratio + 0.1)
    return Line(name, manifest, 3 << 20, 192, speed, speed, 0.99876, 0.9, 0.875, {"ndcg@10": 0.1})


def test_the_table_says_what_was_measured() -> None:
    rows = export_table.table([line("one", 1.0), line("other", 1.954)]).splitlines()
    assert rows[0].endswith("| neighbours | ndcg@10 |")
    assert rows[3] == (
        "| other | 2 | 3.0 | 192 | 1.95 (1.85 to 2.05) | 1.95 (1.85 to 2.05) | 0.9988 | 0.9000 | "
        "0.875 | 0.1000 |"
    )


def test_neighbours_kept_and_ratios_by_hand() -> None:
    one = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    other = np.array([[4, 3, 9, 10], [8, 7, 6, 5]])
    assert comparison._shared(one, other) == 0.75
    assert comparison._ratios([2.0, 2.0, 2.0], [1.0, 2.0, 4.0]).ratio == 1.0
    assert comparison._ratios([3.0], [1.5]) == Speed(2.0, 2.0, 2.0)


def test_the_nearest_leave_the_item_itself_out() -> None:
    items = np.eye(30, dtype=np.float32)
    items[0, 1] = items[1, 0] = 0.5
    nearest = comparison._nearest(items, seed=0)
    assert nearest.shape == (30, 10)
    assert nearest[0, 0] == 1
    assert nearest[1, 0] == 0
    assert not any(place in row for place, row in enumerate(nearest))


def test_a_line_survives_json() -> None:
    one = line("one", 1.0)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Line) == one


def test_the_page_has_the_table_that_the_command_writes() -> None:
    page = (ROOT / "docs" / "shipping.md").read_text(encoding="utf-8")
    _, _, rest = page.partition(export_table.BEGIN)
    written, _, _ = rest.partition(export_table.END)
    header = export_table.table([line("one", 1.0)]).splitlines()[0].partition("| ndcg@10")[0]
    assert header in written
    rows = [row.split(" | ")[0] for row in written.splitlines() if row.startswith("| ")]
    assert rows[2:] == [f"| {name}" for name in VARIANTS]
    assert "interest-stream export --compare" in written
