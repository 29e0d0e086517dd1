"""``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "Examples: interest-stream demo · interest-stream demo --events 100000 --keep"


def demo(
    context: typer.Context,
    events: Annotated[int, typer.Option(min=1, help="How many ratings are played.")] = 20_000,
    rate: Annotated[
        float,
        typer.Option(min=0, help="Events per second; 0: enough to be done in a minute, or 1,000."),
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all up until Ctrl-C.")] = False,
    directory: Annotated[Path, typer.Option(help="Where it keeps its things.")] = Path(".run/demo"),
) -> None:
    """Play MovieLens-1M through a Kafka and a worker of its own, and check the result."""
    from stream_app import demo as the_demo

    raise typer.Exit(
        the_demo.run(the_demo.Options(directory.absolute(), events, rate, keep), context.obj.config)
    )
