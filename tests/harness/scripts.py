"""The scripts of ``examples/``, loaded as modules: their parts can be tried, and their ``main``.

They run in the test's own process, for importing torch anew takes longer than what they do; that a
reader can start them, too, is seen to by the pages' own commands (test_docs_commands).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from unittest import mock

from tests.harness.documents import ROOT
from tests.harness.worker import environment

EXAMPLES = ROOT / "examples"


def load_script(name: str) -> ModuleType:
    """Return ``examples/NAME.py`` as a module; its ``main`` does not run."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Outcome:
    """What a run left: 0 or the line it was ended with, and what it printed."""

    code: int | str | None
    lines: list[str]


def run_script(name: str, *arguments: str, settings: dict[str, object]) -> Outcome:
    """Run the script's ``main`` with ``settings`` as the only INTEREST_ variables."""
    module = load_script(name)
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(settings), clear=True),
        mock.patch.object(sys, "argv", [f"{name}.py", *arguments]),
        contextlib.redirect_stdout(printed),
    ):
        code: int | str | None = 0
        try:
            module.main()
        except SystemExit as ended:
            code = ended.code
    return Outcome(code or 0, printed.getvalue().splitlines())
