"""``train`` and ``tune`` as they are typed, and the data they read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file
from typer.testing import CliRunner

import encoders
from encoders.config import EncoderConfig
from encoders.errors import EncoderError
from encoders.evaluation.interactions import Interactions, in_time_order
from state.event import Event, EventType
from stream_app.cli.commands import app
from stream_app.errors import FixData, FixSettings
from stream_app.evaluation_data import file_interactions
from stream_app.settings import load
from stream_app.training_data import Wanted, file_data
from tests.conformance.models import tiny_bert
from tests.harness.clusters import world, write_files

QUICK = ["--dimensions", "16", "--layers", "1", "--epochs", "2", "--batch", "32", "--json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("train")
    tiny_bert(made / "bert")
    write_files(made, *world(users=30, searches=True))
    return made


def run(folder: Path, *arguments: str) -> Result:
    """In this process: to import torch anew takes longer than all that is done with it."""
    own = {"INTEREST_TEXT_MODEL": str(folder / "bert"), "INTEREST_DATADIR": str(folder / "data")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(app, [*arguments], env=own)


FILES = ["--events", "events.jsonl", "--items", "items.jsonl"]


def test_files_become_a_model_that_is_gone_on_with(folder: Path) -> None:
    outcome = run(folder, "train", *FILES, "--out", "model", *QUICK, "--granularities",
                  "word,document", "--fusion", "attention")  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(outcome.stdout)
    assert report["epochs"] == 2
    assert set(report["validation"]) >= {"recall@10", "ndcg@10"}
    kept = json.loads((folder / "model" / "training.json").read_bytes())
    assert kept["granularities"] == ["word", "document"]
    assert (kept["fusion"], kept["dimensions"], kept["seed"]) == ("attention", 16, 0)
    assert list((folder / "model" / "training" / "logs").glob("events.out.tfevents.*"))
    again = run(folder, "train", *FILES, "--out", "model", "--settings", "model/training.json",
                "--json")  # fmt: skip
    assert json.loads(again.stdout)["history"] == report["history"]
    other = run(folder, "train", *FILES, "--out", "model", *QUICK)
    assert isinstance(other.exception, FixData)
    assert "is of other settings or data" in str(other.exception)


def test_the_text_model_is_trained_at_the_rate_that_is_asked_for(folder: Path) -> None:
    told = {}
    for rate in ("0", "0.01"):
        outcome = run(folder, "train", *FILES, "--out", f"text-{rate}", *QUICK, "--text", "lora",
                      "--text-learning-rate", rate)  # fmt: skip
        assert outcome.exit_code == 0, outcome.output
        kept = json.loads((folder / f"text-{rate}" / "training.json").read_bytes())
        assert kept["text_learning_rate"] == float(rate)
        weights = load_file(folder / f"text-{rate}" / "text-model" / "model.safetensors")
        told[rate] = weights["encoder.layer.0.attention.self.query.weight"]
    source = load_file(folder / "bert" / "model.safetensors")
    at_start = source["encoder.layer.0.attention.self.query.weight"]
    assert np.array_equal(told["0"], at_start)
    assert np.abs(told["0.01"] - at_start).max() > 1e-4


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("frozen", "INTEREST_INTEREST_MODEL=said-frozen"),
        ("full", "INTEREST_INTEREST_MODEL=said-full INTEREST_TEXT_MODEL=said-full/text-model"),
    ],
)
def test_what_a_worker_needs_is_said(folder: Path, text: str, needed: str) -> None:
    quick = [option for option in QUICK if option != "--json"]
    out = f"said-{text}"
    outcome = run(folder, "train", *FILES, "--out", out, *quick, "--epochs", "1", "--text", text)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.splitlines()[-1] == f"use it with {needed}"
    own = dict(one.partition("=")[::2] for one in needed.split())
    config = EncoderConfig(
        text_model=str(folder / own.get("INTEREST_TEXT_MODEL", "bert")),
        interest_model=str(folder / out),
        slab_rows=1,
    )
    assert encoders.build(config).info.dimensions == 16


def test_a_search_leaves_settings_that_train_takes(folder: Path) -> None:
    outcome = run(folder, "tune", *FILES, "--out", "study", "--trials", "1", "--epochs", "1",
                  "--parameters", "dropout", "--json")  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert list(found["parameters"]) == ["dropout"]
    best = json.loads((folder / "study" / "best.json").read_bytes())
    assert best["dropout"] == found["parameters"]["dropout"]
    assert (folder / found["model"] / "interest.safetensors").is_file()


def test_a_search_learns_the_numbers_of_a_field(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    rated = "".join(json.dumps(line | {"stars": at % 5}) + "\n" for at, line in enumerate(lines))
    (folder / "rated.jsonl").write_text(rated)
    base = {"loss": "squared_error", "dimensions": 16, "layers": 1}
    (folder / "base.json").write_text(json.dumps(base))
    arguments = ["tune", "--events", "rated.jsonl", "--items", "items.jsonl", "--out", "rated",
                 "--settings", "base.json", "--trials", "1", "--epochs", "1", "--parameters",
                 "dropout", "--json"]  # fmt: skip
    outcome = run(folder, *arguments, "--value-field", "stars")
    assert outcome.exit_code == 0, outcome.output
    best = json.loads((folder / "rated" / "best.json").read_bytes())
    assert (best["loss"], best["target"]) == ("squared_error", "value")
    wrong = run(folder, *arguments, "--value-field", "moons")
    assert isinstance(wrong.exception, FixData), wrong.output
    assert "is a study of other settings, parameters, data" in str(wrong.exception)


@pytest.mark.parametrize(
    ("arguments", "said", "kind"),
    [
        (["--events", "events.jsonl"], "say where the data are", FixSettings),
        ([*FILES, "--from-kafka"], "say where the data are", FixSettings),
        ([*FILES, "--epochs", "0"], "training: epochs is 0, must be at least 1", EncoderError),
        ([*FILES, "--granularities", "page"], "granularities is page", EncoderError),
        ([*FILES, "--settings", "no.json"], "no.json: ", FixSettings),
        (["--events", "no.jsonl", "--items", "items.jsonl"], "no.jsonl cannot be read", FixData),
        ([*FILES, "--precision", "bf16"], "bf16 needs a GPU", EncoderError),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, arguments: list[str], said: str, kind: type[Exception]
) -> None:
    error = run(folder, "train", "--out", "refused", *arguments).exception
    assert isinstance(error, kind)
    assert said in str(error)
    assert "\n" not in str(error)


def read(tmp_path: Path, events: list[Event], **wanted: object) -> object:
    files = write_files(tmp_path, events, {"a": "text a", "b": "text b"})
    return file_data(*files, load(environ={}), Wanted(**wanted))  # type: ignore[arg-type]


def view(user: str, number: int, item: str, **more: object) -> Event:
    return Event(f"{user}{number}", user, EventType.VIEW, item, None, number, **more)  # type: ignore[arg-type]


def test_doubles_count_once_and_the_forgotten_are_gone(tmp_path: Path) -> None:
    forget = Event("f", "bob", EventType.FORGET, None, None, 50)
    events = [view("ann", 1, "a"), view("bob", 2, "a"), view("ann", 1, "a"), forget,
              view("bob", 60, "b")]  # fmt: skip
    data = read(tmp_path, events).interactions  # type: ignore[attr-defined]
    assert [data.user_ids[user] for user in data.users] == ["ann", "bob"]
    assert [data.item_ids[item] for item in data.items] == ["a", "b"]


def test_events_of_unknown_items_are_refused_or_left_out(tmp_path: Path) -> None:
    events = [view("ann", 1, "a"), view("ann", 2, "zebra"), view("bob", 3, "b")]
    with pytest.raises(FixData, match=r"1 events name an item .* \('zebra'\): add the items, or"):
        read(tmp_path, events)
    data = read(tmp_path, events, skip_unknown_items=True).interactions  # type: ignore[attr-defined]
    assert len(data) == 2


def test_numbers_stay_with_their_events(tmp_path: Path) -> None:
    events = [view("ann", 5, "a"), view("bob", 3, "b"), view("bob", 9, "a")]
    write_files(tmp_path, events, {"a": "text a", "b": "text b"})
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    for line, stars in zip(lines, (4, None, 2.5), strict=True):
        line["stars"] = stars
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = file_data(
        tmp_path / "events.jsonl", tmp_path / "items.jsonl", load(environ={}),
        Wanted(value_field="stars"),
    )  # fmt: skip
    assert found.values is not None
    assert found.interactions.times_ms.tolist() == [3, 5, 9]
    assert np.array_equal(found.values, np.array([np.nan, 4, 2.5], np.float32), equal_nan=True)


@pytest.mark.parametrize("key", ["", "0123456789abcdef" * 2])
def test_ties_are_ordered_as_in_the_evaluation_wherever_the_events_come_from(
    tmp_path: Path, key: str
) -> None:
    """The last event of each user is what training must not see: with another order it would."""
    (tmp_path / "key").write_text(key)
    settings = load(environ={"INTEREST_PSEUDONYM_KEY_FILE": str(tmp_path / "key")} if key else {})
    events, catalogue = world(users=8)
    tied = [Event(e.event_id, e.user_id, e.type, e.item_id, None, e.time_ms // 10**8 * 10**8)
            for e in events]  # fmt: skip
    mixed = [tied[at] for at in np.random.default_rng(1).permutation(len(tied))]
    known = {item: text for item, text in catalogue.items() if item != tied[0].item_id}
    limited = [event for event in mixed if event.item_id in known]
    orders = []
    for name, sent, sold in (
        ("all", tied, catalogue),
        ("twice", [*mixed, *mixed[:9]], catalogue),
        ("some", mixed, known),
    ):
        folder = tmp_path / name
        folder.mkdir()
        files = write_files(folder, sent, sold)
        wanted = Wanted(split_seed=3, skip_unknown_items=True)
        trained = file_data(*files, settings, wanted).interactions
        asked = in_time_order(file_interactions(*files, settings), seed=3)
        orders += [told(trained), [at for at in told(asked) if at[1] in sold]]
    assert len(orders[0]) == len(tied)
    assert orders[0] == orders[1] == orders[2] == orders[3]
    assert orders[4] == orders[5] == [at for at in orders[0] if at[1] in known]
    assert len(orders[4]) == len(limited) < len(tied)
    other = told(in_time_order(file_interactions(*files, settings), seed=4))
    assert [at for at in other if at[1] in known] != orders[4]


def told(data: Interactions) -> list[tuple[str, str]]:
    """User and item of each event, by name."""
    return [
        (data.user_ids[user], data.item_ids[item] if item >= 0 else "")
        for user, item in zip(data.users, data.items, strict=True)
    ]
