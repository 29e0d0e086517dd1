"""``inspect user``: what the stream holds of somebody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_app.cli.context import Json, write_json

if TYPE_CHECKING:
    from stream_app.settings import Settings
    from stream_app.user_view import UserView

app = typer.Typer(no_args_is_help=True, help="Look at what is stored.")


@app.callback()
def inspect() -> None:
    """Look at what is stored."""


@app.command(epilog="Examples: interest-stream inspect user alice · … inspect user alice --json")
def user(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(metavar="USER")],
    nearest: Annotated[int, typer.Option(min=0, help="How many nearest items.")] = 5,
    as_json: Json = False,
) -> None:
    """Show a user's window, vector and nearest items, read from the topics."""
    description = asyncio.run(_describe(context.obj.settings(), user_id, nearest))
    if as_json:
        write_json(description)
    else:
        _show(description)


async def _describe(settings: Settings, user_id: str, nearest: int) -> dict[str, Any]:
    import numpy as np

    from stream_app.user_view import read_item_space, read_user

    view = await read_user(settings, user_id)
    described = {"user_id": user_id, "partition": view.partition, **_window(view)}
    if view.update is not None:
        vector = np.array(view.update.vector, dtype=np.float32)
        described["applied_offset"] = view.update.applied_offset
        described["model_id"] = view.update.model_id
        described["dimensions"] = len(vector)
        described["vector_norm"] = round(float(np.linalg.norm(vector)), 6)
        space = await read_item_space(settings, view.update.model_id)
        described["nearest_items"] = [
            {"item_id": name, "score": round(score, 6)}
            for name, score in space.nearest(vector, nearest)
        ]
    return described


def _window(view: UserView) -> dict[str, Any]:
    """Return the window's events, newest first, and the all-time counts."""
    import msgspec

    from state.event import WINDOW_TYPES

    if view.window is None:
        return {"window": [], "counts": {}}
    held = [msgspec.to_builtins(event) for event in view.window.events(view.user_id)]
    for event in held:
        del event["user_id"]
    return {
        "window": held[::-1],
        "counts": {
            kind.value: count
            for kind, count in zip(WINDOW_TYPES, view.window.counts, strict=False)
            if count
        },
        "window_applied_offset": view.window.applied_offset,
    }


def _show(described: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(
        f"[bold]{escape(described['user_id'])}[/bold], partition {described['partition']}"
    )
    table = Table("time (UTC)", "type", "item or text", box=None, pad_edge=False)
    for event in described["window"]:
        time = datetime.fromtimestamp(event["time_ms"] / 1000, UTC)
        what = event["item_id"] or event["text"] or ""
        table.add_row(f"{time:%Y-%m-%d %H:%M:%S}", event["type"], escape(what))
    console.print(table)
    counts = ", ".join(f"{count} {kind}" for kind, count in described["counts"].items())
    console.print(f"all time: {counts or 'nothing'}")
    if "vector_norm" not in described:
        console.print("no update is published")
        return
    console.print(
        f"vector: {described['dimensions']} dimensions, norm {described['vector_norm']:.3f}, "
        f"model {described['model_id']}, applied offset {described['applied_offset']}"
    )
    for item in described["nearest_items"]:
        console.print(f"  {item['score']:+.3f}  {escape(item['item_id'])}")
