"""Write the tables of docs/settings.md from the settings themselves: python docs/settings_table.py.

``tests/unit/test_docs.py`` fails when the page is not what this writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stream_app.settings import Settings

PAGE = Path(__file__).with_name("settings.md")
BEGIN = "<!-- written by docs/settings_table.py: begin -->"
END = "<!-- end -->"

GROUPS = {
    "app_id": "Names and places",
    "encoder": "The encoder",
    "update_format": "What is published",
    "window_max_events": "Events and windows",
    "micro_batch_linger_ms": "Batches, memory and checkpoints",
    "delivery_timeout_s": "Time limits, group and log",
}
"""The setting each group begins with, in the order of the settings."""

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def tables() -> str:
    """Return one Markdown table per group."""
    lines: list[str] = []
    for name, field in Settings.model_fields.items():
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}", "", "| setting | default | allowed | meaning |"]
            lines.append("|---|---|---|---|")
        default = _shown(field.default)
        lines.append(f"| `{name}` | {default} | {_allowed(field)} | {field.description} |")
    return "\n".join(lines[1:]) + "\n"


def page() -> str:
    """Return the page with its tables as they should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if value is None or isinstance(value, SecretStr):
        return "empty"
    if isinstance(value, str | Path):
        return f"`{value}`" if str(value) else "empty"
    return f"`{value:,}`".replace(",", "_") if isinstance(value, int) else f"`{value:g}`"


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    bounds = []
    for constraint in field.metadata:
        for name, words in _BOUNDS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                bounds.append(f"{words} {limit:,}".replace(",", "_"))
        if pattern := getattr(constraint, "pattern", None):
            bounds.append(f"`{pattern}`")
        if getattr(constraint, "min_length", None):
            bounds.append("not empty")
    return ", ".join(bounds) or ("a path" if field.annotation in (Path, Path | None) else "any")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
