"""The command: files in, tables, plots and JSON out; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from encoders.config import InterestConfig
from encoders.evaluation.pages import Code, Heading, Paragraph, Picture, Table, html_page, markdown
from encoders.evaluation.plan import Plan
from encoders.evaluation.results import Protocol
from state.window import WindowPolicy
from stream_app.cli import evaluate
from stream_app.cli.commands import app
from stream_app.errors import FixData, FixSettings
from stream_app.evaluation_data import file_interactions
from stream_app.record_files import groups
from stream_app.settings import load
from stream_app.training_notes import training_notes, window_misfits
from tests.harness.clusters import clustered

_START_MS = 1_700_000_000_000


def write_files(folder: Path, users: int = 30) -> tuple[Path, Path]:
    data = clustered(users=users)
    events, items = folder / "events.jsonl", folder / "items.jsonl"
    rows = zip(data.users, data.items, data.times_ms, strict=True)
    lines = [
        {"event_id": str(n), "user_id": data.user_ids[u], "type": "view",
         "item_id": data.item_ids[i], "time_ms": int(t)}
        for n, (u, i, t) in enumerate(rows)
    ]  # fmt: skip
    events.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    catalogue = [
        {"item_id": item, "text": text, "genres": item.split("-")[1]}
        for item, text in zip(data.item_ids, data.texts, strict=True)
    ]
    items.write_text("\n".join(map(json.dumps, catalogue)), encoding="utf-8")
    return events, items


def write_groups(folder: Path) -> Path:
    groups = folder / "users.jsonl"
    known = clustered(users=30).user_ids[:20]
    lines = [{"user_id": user, "region": ("n", "s")[at % 2]} for at, user in enumerate(known)]
    groups.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return groups


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INTEREST_")}
    inherited |= {"INTEREST_ENCODER": "stub", "INTEREST_DATADIR": str(folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "stream_app", "evaluate", *arguments],
        env=inherited, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("evaluate")
    events, items = write_files(folder)
    arguments = ["--events", str(events), "--items", str(items), "--seed", "3"]
    arguments += ["--groups", str(write_groups(folder))]
    outcome = run(folder, *arguments, "--out", str(folder / "docs" / "evaluation.md"))
    assert outcome.returncode == 0, outcome.stderr
    return folder / "docs", outcome.stdout.splitlines()


def test_the_last_line_is_the_main_metrics(written: tuple[Path, list[str]]) -> None:
    folder, lines = written
    last = json.loads(lines[-1])
    report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert last["seed"] == report["seed"] == 3
    for protocol in report["protocols"]:
        ours = next(line for line in protocol["models"] if line["name"] == "interest_model")
        assert last[protocol["name"]]["ndcg@10"] == round(ours["metrics"]["ndcg@10"]["mean"], 6)
        assert last[protocol["name"]]["questions"] == protocol["questions"] > 29
    assert last["model_id"] == report["model"]["model_id"]
    assert report["data"]["window_max_age_ms"] == "2,592,000,000"


def test_the_report_has_all_that_was_asked(written: tuple[Path, list[str]]) -> None:
    folder, _ = written
    report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    offline, prequential = report["protocols"]
    names = [line["name"] for line in offline["models"]]
    assert names == [
        "random", "popularity", "popularity_30_days", "item_knn", "item_knn_decayed", "mean",
        "centred_decayed_mean", "interest_model",
    ]  # fmt: skip
    assert [line["name"] for line in prequential["models"]] == names
    metrics = offline["models"][-1]["metrics"]
    assert set(metrics) == {
        "recall@10", "ndcg@10", "mrr@10", "recall@20", "ndcg@20", "mrr@20", "auc", "diversity@10",
        "miscalibration@10",
    }  # fmt: skip
    assert all(value["low"] <= value["mean"] <= value["high"] for value in metrics.values())
    assert len(offline["grid"]["lines"]) == 9
    assert [late["measured"]["name"] for late in offline["staleness"]] == [
        "at once", "1 event", "10 events", "100 events", "1 hour", "1 day",
    ]  # fmt: skip
    assert len(offline["other_order"]) == len(names)
    assert set(offline["breakdowns"]["interest_model"]) == {
        "popularity of the target", "events before", "activity", "region",
    }  # fmt: skip
    regions = offline["breakdowns"]["interest_model"]["region"]
    assert {part["label"]: part["questions"] for part in regions} == {
        "n": 10, "s": 10, "unknown": 10,
    }  # fmt: skip
    assert set(report["versions"]) >= {"python", "numpy", "interest-stream"}
    assert report["command"].startswith("interest-stream evaluate --events")


def test_the_command_brings_the_settings_of_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the same command gives other figures."""
    monkeypatch.setattr(sys, "argv", ["/bin/interest-stream", "evaluate", "--model", "a b"])
    set_there = {"INTEREST_WINDOW_MAX_AGE_MS": "5000000", "INTEREST_HTTP_PORT": "8080"}
    assert evaluate._command(load(environ=set_there)) == (
        "INTEREST_WINDOW_MAX_AGE_MS=5000000 interest-stream evaluate --model 'a b'"
    )


def test_the_page_names_its_files_and_repeats_the_figures(written: tuple[Path, list[str]]) -> None:
    folder, lines = written
    page = (folder / "evaluation.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\((assets/[^)]+)\)", page)
    assert len(pictures) == 4
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert f"wrote {folder / picture}" in lines
    report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    for line in report["protocols"][0]["models"]:
        value = line["metrics"]["recall@10"]
        cell = f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
        assert f"| {line['name']} | {cell} |" in page
    for heading in ("Leave-last-out", "Prequential", "What real time is worth"):
        assert f"# {heading}\n" in page
    whole = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert whole.count("data:image/png;base64,") == 4
    assert "http" not in whole and 'src="assets' not in whole  # noqa: PT018


def test_the_same_seed_gives_the_same_figures(
    written: tuple[Path, list[str]], tmp_path: Path
) -> None:
    events, items = write_files(tmp_path)
    arguments = ["--events", str(events), "--items", str(items), "--no-grid"]
    arguments += ["--protocol", "leave-last-out", "--out", str(tmp_path / "again.md")]
    for seed, same in (("3", True), ("4", False)):
        outcome = run(tmp_path, *arguments, "--seed", seed)
        last = json.loads(outcome.stdout.splitlines()[-1])
        before = json.loads(written[1][-1])
        assert last["model_id"] == before["model_id"]
        found = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        report = json.loads((written[0] / "evaluation.json").read_text(encoding="utf-8"))
        models = (found["protocols"][0]["models"], report["protocols"][0]["models"])
        assert (models[0] == models[1]) is same


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to evaluate on: give --dataset ml-1m, or --events and --items"),
        (["--events", "e"], "nothing to evaluate on"),
        (["--dataset", "ml-1m", "--events", "e"], "give either --dataset or --events"),
        (["--dataset", "ml-1m", "--model", "no/such"], "no/such is no folder"),
        (["--dataset", "ml-1m", "--groups", "g"], "--groups goes with --events and --items"),
        (["--dataset", "ml-1m", "--also", "no/such"], "no/such is no folder"),
        (["--dataset", "ml-1m", "--also", ".", "--no-grid"], "--also is compared in the grid"),
        (
            ["--dataset", "ml-1m", "--also", ".", "--protocol", "prequential"],
            "--also is compared in the grid of leave-last-out",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(arguments: list[str], said: str) -> None:
    outcome = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(outcome.exception, FixSettings)
    assert said in str(outcome.exception)


def test_one_user_with_two_items_is_too_little(tmp_path: Path) -> None:
    events, items = tmp_path / "e.jsonl", tmp_path / "i.jsonl"
    line = {"event_id": "1", "user_id": "u", "type": "view", "item_id": "a", "time_ms": 1}
    events.write_text(json.dumps(line), encoding="utf-8")
    items.write_text(json.dumps({"item_id": "a", "text": "A"}), encoding="utf-8")
    outcome = run(tmp_path, "--events", str(events), "--items", str(items))
    assert outcome.returncode == FixData.exit_code
    assert outcome.stderr.strip().splitlines()[-1] == (
        "error: no user has three different items: there is nothing to ask"
    )


def test_lines_that_are_no_events_are_named(tmp_path: Path) -> None:
    events, items = write_files(tmp_path)
    with events.open("a", encoding="utf-8") as file:
        file.write('\n{"event_id": "x", "user_id": "u", "type": "view", "item_id": "a"}')
    with pytest.raises(FixData, match=r"event 421: no time_ms"):
        file_interactions(events, items, load(environ={}))


def test_genres_come_as_a_list_or_with_commas(tmp_path: Path) -> None:
    events, items = write_files(tmp_path)
    lines = [{"item_id": "a", "text": "A", "genres": ["X", "Y"]},
             {"item_id": "b", "text": "B", "genres": "X, Z"},
             {"item_id": "c", "text": "C", "genres": 7}, {"item_id": "d", "text": "D"}]  # fmt: skip
    items.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = file_interactions(events, items, load(environ={}))
    assert data.genres == (("X", "Y"), ("X", "Z"), (), ())


def test_groups_are_of_users_as_the_file_names_them(tmp_path: Path) -> None:
    events, items = write_files(tmp_path)
    groups = write_groups(tmp_path)
    (tmp_path / "key").write_text("0123456789abcdef" * 2)
    hidden = load(environ={"INTEREST_PSEUDONYM_KEY_FILE": str(tmp_path / "key")})
    plain = file_interactions(events, items, load(environ={}), groups)
    data = file_interactions(events, items, hidden, groups)
    assert not set(data.user_ids) & set(plain.user_ids)
    assert data.groups == plain.groups
    assert set(data.groups["region"]) == {"n", "s", "unknown"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"user_id": "u", "region": ["n"]}], "line 1: "),
        ([{"region": "n"}], "line 1: user_id must be a string"),
        ([{"user_id": "u"}, {"user_id": "u"}], "line 2: user 'u' stands there twice"),
        (
            [{"user_id": str(age), "age": age} for age in range(51)],
            "age has 51 different values, at most 50 can be compared",
        ),
    ],
)
def test_groups_that_are_none_are_refused(
    tmp_path: Path, lines: list[dict[str, object]], said: str
) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(FixData, match=re.escape(said)):
        groups(file)


def test_groups_are_words_numbers_or_yes_and_no(tmp_path: Path) -> None:
    file = tmp_path / "users.jsonl"
    lines = [{"user_id": "u", "region": "n", "age": 35}, {"user_id": "v", "age": 2.5, "new": True}]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = {"region": {"u": "n"}, "age": {"u": "35", "v": "2.5"}, "new": {"v": "yes"}}
    assert groups(file) == found


PAGE = [
    Heading(1, "A & B"), Paragraph("One < two."), Code("run --it"),
    Table(("name", "x"), [("a|b", "1")]), Picture("plot", "a plot", b"\x89PNG"),
]  # fmt: skip


def test_a_page_as_markdown_and_as_html() -> None:
    assert markdown(PAGE, "assets") == (
        "# A & B\n\nOne < two.\n\n```text\nrun --it\n```\n\n"
        "| name | x |\n|---|--:|\n| a\\|b | 1 |\n\n![a plot](assets/plot.png)\n"
    )
    page = html_page(PAGE)
    assert "<h1>A &amp; B</h1>" in page
    assert "<p>One &lt; two.</p>" in page
    assert "<td>a|b</td><td>1</td>" in page
    assert "data:image/png;base64,iVBORw==" in page


def protocol(name: str) -> Protocol:
    return Protocol(name, "", "random", _START_MS, 1, 1, [])


@pytest.mark.parametrize(
    ("record", "name", "seed", "said"),
    [
        ({"hold_out": "two", "split_seed": 0}, "leave_last_out", 0, "in the other order"),
        ({"hold_out": "two", "split_seed": 0}, "leave_last_out", 1, "has seen the answers"),
        ({"hold_out": "one", "split_seed": 0}, "leave_last_out", 0, "has seen the answers"),
        ({"until_ms": 0}, "prequential", 0, f"`train --until-ms {_START_MS}`"),
        ({"until_ms": _START_MS + 1}, "prequential", 0, "reached into the test period"),
        ({"until_ms": _START_MS}, "prequential", 0, None),
        (None, "prequential", 0, "cannot be told"),
    ],
)
def test_what_training_has_seen_is_said(
    tmp_path: Path, record: dict[str, object] | None, name: str, seed: int, said: str | None
) -> None:
    if record is not None:
        (tmp_path / "training.json").write_bytes(msgspec.json.encode(record))
    notes = training_notes(tmp_path, Plan(seed=seed), [protocol(name)])
    assert bool(notes) is (said is not None)
    if said is not None:
        assert said in notes[0]


def test_windows_unlike_those_of_the_training_are_told() -> None:
    policy = WindowPolicy(50, 86_400_000)
    assert window_misfits(InterestConfig(), policy) == [], "untrained, any will do"
    assert window_misfits(_trained_on(50, 86_400_000), policy) == []
    (note,) = window_misfits(_trained_on(50, 1_000), policy)
    assert "window_max_age_ms 1000, these have 86400000" in note
    assert "set INTEREST_WINDOW_MAX_AGE_MS=1000" in note
    assert len(window_misfits(_trained_on(20, 1_000), policy)) == 2


def _trained_on(events: int, age_ms: int) -> InterestConfig:
    return InterestConfig(window_max_events=events, window_max_age_ms=age_ms)
