"""What there is to ask Prometheus for, and Prometheus's own judge of rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from stream_app.serving.metrics import PREFIX
from tests.harness.documents import ROOT
from tests.harness.promtool import ABSENT, find

PROMETHEUS = ROOT / "docker" / "prometheus"
JOB = "interest-stream"
_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<type>counter|gauge|histogram) \|(?P<labels>[^|]*)\|", re.MULTILINE
)
_NAMED = re.compile(r"\b(?P<name>interest_stream_\w+)(?:\{(?P<labels>[^}]*)\})?")
_OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus gives to whatever it scrapes."""


def documented() -> dict[str, set[str]]:
    """Return every time series of docs/metrics.md with its labels, histograms by their parts."""
    found: dict[str, set[str]] = {}
    for row in _ROW.finditer((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")):
        name, labels = PREFIX + row["name"], set(re.findall(r"`(\w+)`", row["labels"]))
        if row["type"] == "histogram":
            found |= {f"{name}_sum": labels, f"{name}_count": labels}
            found[f"{name}_bucket"] = labels | {"le"}
        else:
            found[name] = labels
    return found


def unknown_in(expression: str) -> list[str]:
    """Return what an expression names of ours that docs/metrics.md does not have."""
    there, wrong = documented(), []
    for named in _NAMED.finditer(expression):
        name = named["name"]
        if name not in there:
            wrong.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*[=!]~?", named["labels"] or ""))
        wrong += [f"{name}{{{label}}}" for label in labels - there[name] - _OF_TARGETS]
    return wrong


def promtool(*arguments: str | Path) -> str:
    """Run Prometheus's promtool, which must accept; skip where there is none."""
    command = find()
    if command is None:
        pytest.skip(ABSENT)
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_expressions(expressions: list[str], folder: Path) -> None:
    """Have promtool parse expressions, as recording rules."""
    rules = [{"record": f"expression:{n}", "expr": each} for n, each in enumerate(expressions)]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in promtool("check", "rules", file)
