"""What is installed: exactly our three packages, and they import from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stream_app.serving.page import dashboard_files

ROOT = Path(__file__).parents[2]
PACKAGES = {"stream_app", "encoders", "state"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    _run(
        [
            sys.executable,
            "-m",
            "uv",
            "build",
            "--quiet",
            "--wheel",
            "--out-dir",
            str(out),
            str(ROOT),
        ]
    )
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_exactly_the_three_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    kinds = (".py", ".avsc", "py.typed")
    others = {name for name in names if _is_ours(name) and not name.endswith(kinds)}
    assert {str(Path(name).parent) for name in others} == {"stream_app/serving/dashboard"}
    assert {Path(name).name for name in others} == set(dashboard_files())


def test_every_source_file_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for pattern in ("*.py", "*.avsc")
        for path in (ROOT / package).rglob(pattern)
    }
    assert {name for name in names if _is_ours(name)} >= sources


def test_the_installed_package_imports_from_a_foreign_directory(
    wheel: Path, tmp_path: Path
) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    _run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
        + ["--no-deps", "--target", str(target), str(wheel)]
    )
    # -I leaves out the current directory, PYTHONPATH and the user's packages.
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import encoders, state, stream_app, stream_app.cli.commands, stream_app.updates\n"
        "print(stream_app.__file__, encoders.__file__, state.__file__)"
    )
    places = _run([sys.executable, "-I", "-c", code], cwd=elsewhere).split()
    assert [Path(place).parent.parent for place in places] == [target] * 3


def _is_ours(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in PACKAGES


def _run(command: list[str], cwd: Path | None = None) -> str:
    outcome = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout
