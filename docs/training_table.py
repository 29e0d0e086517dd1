"""Write docs/training-settings.md from the settings of a training: python docs/training_table.py.

``tests/unit/test_docs.py`` fails when the page is not what this writes.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from encoders.interface import GRANULARITIES, MEDIA
from encoders.training.settings import TrainingSettings

PAGE = Path(__file__).with_name("training-settings.md")

_NAMES = "some of " + ", ".join(f"`{name}`" for name in (*GRANULARITIES, MEDIA))
_INTRODUCTION = """# Settings of a training

Written by `python docs/training_table.py` from `encoders/training/settings.py`. They stand in the
folder's `training.json`; `train --settings FILE` and `tune --settings FILE` take a file with some
of them, and `train --help` has an option for most. [Training](training.md) says what they are for.
"""


def page() -> str:
    """Return the whole page."""
    hints = get_type_hints(TrainingSettings)
    meanings = _docstrings()
    lines = [_INTRODUCTION, "| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(TrainingSettings):
        if field.name == "schema_version":
            continue
        allowed = _allowed(hints[field.name])
        meaning = " ".join(meanings[field.name].replace("``", "`").split())
        lines.append(f"| `{field.name}` | {_shown(field.default)} | {allowed} | {meaning} |")
    return "\n".join(lines) + "\n"


def _docstrings() -> dict[str, str]:
    """Return the string below each field."""
    (made,) = ast.parse(inspect.getsource(TrainingSettings)).body
    assert isinstance(made, ast.ClassDef)
    found = {}
    for field, below in zip(made.body, made.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(below.value, ast.Constant)
            found[field.target.id] = str(below.value.value)
    return found


def _shown(value: Any) -> str:
    return f"`{msgspec.json.encode(value).decode()}`"


def _allowed(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    names = {bool: "`true`, `false`", int: "a whole number", float: "a number"}
    return names.get(hint, "a number, or null" if float in get_args(hint) else _NAMES)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
