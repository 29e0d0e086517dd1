"""``model init``: the folder of an interest model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json
from stream_app.cli.progress import progress_bar

app = typer.Typer(no_args_is_help=True, help="Interest models.")


@app.callback()
def model() -> None:
    """Interest models."""


@app.command(epilog="Example: interest-stream model init --items catalogue.jsonl --out model")
def init(
    context: typer.Context,
    items: Annotated[Path, typer.Option(help="JSON Lines with item_id and text.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    as_json: Json = False,
) -> None:
    """Make an untrained interest model from a catalogue: its centre and its words' salience."""
    from stream_app import record_files
    from stream_app.model_folder import init_from_items

    settings = context.obj.settings()
    lines = [line for _, line in record_files.items(items)]
    with progress_bar("embedding", len(lines), shown=not as_json) as show:
        init_from_items(settings, lines, out, show)
    if as_json:
        write_json({"folder": str(out), "items": len(lines)})
    else:
        print(f"made {out}; use it with INTEREST_INTEREST_MODEL={out}")
