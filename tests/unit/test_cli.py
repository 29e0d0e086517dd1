"""The command line where no broker is needed: help, settings, errors and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream_app.cli.commands import app
from stream_app.errors import FixData, FixSettings
from stream_app.settings import Settings
from tests.harness.documents import ROOT


def commands(group: Any, *path: str) -> Iterator[list[str]]:
    """Every command that does something: of the groups only those that do so by themselves."""
    below = getattr(group, "commands", {})
    if not below or group.invoke_without_command:
        yield list(path)
    for name, each in below.items():
        yield from commands(each, *path, name)


COMMANDS = list(commands(typer.main.get_command(app)))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INTEREST_")}
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        cwd=cwd, env=inherited | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help_and_an_example(command: list[str]) -> None:
    outcome = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert outcome.exit_code == 0
    if command:
        assert "Example" in outcome.output
        assert f"interest-stream {' '.join(command)}" in outcome.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_readme_lists_every_command(command: list[str]) -> None:
    rows = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    named = [code for row in rows for code in re.findall("`(.+?)`", row)]
    assert any(re.match(rf"{' '.join(command)}( [A-Z-]|$)", code) for code in named)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, stream_app.cli.commands\n"
        "heavy = ('torch', 'transformers', 'faust', 'numpy', 'aiokafka')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_settings_as_json_hold_every_setting_and_say_what_changed(tmp_path: Path) -> None:
    outcome = run("settings", "--json", cwd=tmp_path, INTEREST_PARTITIONS="4")
    rows = {row["name"]: row for row in json.loads(outcome.stdout)}
    assert set(rows) == set(Settings.model_fields)
    assert rows["partitions"]["value"] == 4
    assert rows["partitions"]["default"] == 8
    assert rows["partitions"]["variable"] == "INTEREST_PARTITIONS"
    assert all(row["meaning"] for row in rows.values() if row["name"] != "log_level")


def test_settings_come_from_the_named_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("partitions = 3\n")
    outcome = run("--config", "mine.toml", "settings", "--json", cwd=tmp_path)
    rows = {row["name"]: row["value"] for row in json.loads(outcome.stdout)}
    assert rows["partitions"] == 3


def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    outcome = run("topics", "check", cwd=tmp_path, INTEREST_PARTITIONS="many")
    assert outcome.returncode == FixSettings.exit_code
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: setting partitions (INTEREST_PARTITIONS) is 'many'")


def test_no_broker_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    outcome = run("topics", "check", cwd=tmp_path, INTEREST_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert outcome.returncode == 4
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: Kafka at 127.0.0.1:1 does not answer")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"item_id": "a", "text": "t"}\n\nnonsense\n', "line 3"),
        ('{"item_id": "a"}\n', "missing required field `text`"),
        ('{"item_id": "", "text": "t"}\n', "item_id must not be empty"),
    ],
)
def test_a_bad_items_file_names_the_line(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "items.jsonl").write_text(content)
    outcome = run("model", "init", "--items", "items.jsonl", "--out", "m", cwd=tmp_path)
    assert outcome.returncode == FixData.exit_code
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: items.jsonl, line ")
    assert complaint in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    outcome = run("model", "init", "--items", "none.jsonl", "--out", "m", cwd=tmp_path)
    assert outcome.returncode == FixData.exit_code
    assert "none.jsonl cannot be read" in outcome.stderr


def test_the_stub_has_no_model_to_make(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "text": "t"}\n')
    outcome = run(
        "model", "init", "--items", "items.jsonl", "--out", "m",
        cwd=tmp_path, INTEREST_ENCODER="stub",
    )  # fmt: skip
    assert outcome.returncode == FixSettings.exit_code
    assert "stub" in outcome.stderr


def test_stopping_a_kafka_that_is_not_there_says_so(tmp_path: Path) -> None:
    outcome = run("kafka", "stop", cwd=tmp_path)
    assert outcome.returncode == 0
    assert "no Kafka runs" in outcome.stdout


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "bundle is no bundle: it has no bundle.json"),
        ({"INTEREST_TEXT_MODEL": "minilm"}, "leave text_model and interest_model empty"),
    ],
)
def test_a_bundle_that_will_not_do_is_refused_before_a_broker_is_asked(
    tmp_path: Path, variables: dict[str, str], says: str
) -> None:
    (tmp_path / "bundle").mkdir()
    settings = {"INTEREST_BROKER_WAIT_S": "0", "INTEREST_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    outcome = run("worker", "--model", "bundle", cwd=tmp_path, **settings, **variables)
    assert outcome.returncode == 2
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (tmp_path / ".run").exists()
