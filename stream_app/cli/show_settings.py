"""``settings``: every setting with its value, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stream_app.cli.context import Json, write_json

if TYPE_CHECKING:
    from stream_app.settings import Settings

EXAMPLES = "Examples: interest-stream settings · interest-stream settings --json"


def settings(context: typer.Context, as_json: Json = False) -> None:
    """List every setting: value, default, meaning. Changed ones are marked."""
    rows = setting_rows(context.obj.settings())
    if as_json:
        write_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "default", "meaning", box=None, pad_edge=False)
    for row in rows:
        changed = row["value"] != row["default"]
        table.add_row(
            row["name"],
            f"[bold]{row['value']}[/bold]" if changed else str(row["value"]),
            str(row["default"]),
            row["meaning"],
        )
    Console().print(table)


def setting_rows(settings: Settings) -> list[dict[str, Any]]:
    """Return name, environment variable, value, default and meaning of every setting."""
    from stream_app.settings import PREFIX

    return [
        {
            "name": name,
            "variable": PREFIX + name.upper(),
            "value": _plain(getattr(settings, name)),
            "default": _plain(field.default),
            "meaning": field.description or "",
        }
        for name, field in type(settings).model_fields.items()
    ]


def _plain(value: Any) -> Any:
    """Secrets come out as stars."""
    from pydantic import SecretStr

    return str(value) if isinstance(value, Path | SecretStr) else value
