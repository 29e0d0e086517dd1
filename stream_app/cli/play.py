"""``items publish`` and ``events play``: files onto topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json
from stream_app.cli.progress import progress_bar
from stream_app.kafka_access import Brokers

items_app = typer.Typer(no_args_is_help=True, help="The catalogue.")
events_app = typer.Typer(no_args_is_help=True, help="What users do.")

Records = Iterable[tuple[bytes, bytes]]

_SHOW_EVERY = 100
"""Records between two moves of the bar, which costs more than sending one."""

_FILE_HELP = "JSON Lines; - is standard input."


@items_app.callback()
def items() -> None:
    """Items, the catalogue."""


@events_app.callback()
def events() -> None:
    """Events, what users do."""


@items_app.command(epilog="Example: interest-stream items publish catalogue.jsonl")
def publish(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=_FILE_HELP)],
    as_json: Json = False,
) -> None:
    """Publish items ({"item_id", "text", ...} per line) to the items topic."""
    from stream_app import record_files

    settings = context.obj.settings()
    records = ((item.item_id.encode(), line) for item, line in record_files.items(file))
    _send(settings.kafka, settings.items_topic, file, records, 0, as_json)


@events_app.command(
    epilog="Examples: interest-stream events play events.jsonl --rate 1000 · "
    "zcat events.jsonl.gz | interest-stream events play -"
)
def play(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=_FILE_HELP)],
    rate: Annotated[float, typer.Option(min=0, help="Events per second; 0: no limit.")] = 0,
    as_json: Json = False,
) -> None:
    """Send events ({"event_id", "user_id", "type", ...} per line), each user's in order."""
    from stream_app import record_files

    settings = context.obj.settings()
    records = record_files.events(file)
    _send(settings.kafka, settings.events_topic, file, records, rate, as_json)


def _send(
    bootstrap_servers: Brokers, topic: str, file: Path, records: Records, rate: float, as_json: bool
) -> None:
    from stream_app import record_files

    start = time.perf_counter()
    total = None if as_json else record_files.line_count(file)
    with progress_bar(topic, total, shown=not as_json) as show:
        sent = asyncio.run(
            _deliver(bootstrap_servers, topic, records, rate, lambda done: show(done, total))
        )
    took_s = time.perf_counter() - start
    if as_json:
        write_json({"topic": topic, "acknowledged": sent, "seconds": round(took_s, 3)})
    else:
        print(f"{sent} records acknowledged on {topic} in {took_s:.1f} s")


async def _deliver(
    bootstrap_servers: Brokers,
    topic: str,
    records: Records,
    rate: float,
    show: Callable[[int], None],
) -> int:
    from stream_app.sender import open_sender, paced
    from stream_app.topics import partition_count

    await partition_count(bootstrap_servers, topic)  # refuses a topic that does not exist
    async with open_sender(bootstrap_servers) as sender:
        sent = 0
        async for key, value in paced(records, rate):
            await sender.send(topic, key, value)
            sent += 1
            if sent % _SHOW_EVERY == 0:
                show(sent)
    return sender.acknowledged
