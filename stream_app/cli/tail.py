"""``tail updates``: interest vectors as they are published."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.cli.context import Json, write_json

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from stream_app.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Follow a topic.")


@app.callback()
def tail() -> None:
    """Follow a topic."""


@app.command(
    epilog="Examples: interest-stream tail updates · "
    "interest-stream tail updates --from-beginning --count 10 --json"
)
def updates(
    context: typer.Context,
    from_beginning: Annotated[bool, typer.Option(help="Not only what is new.")] = False,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: never.")] = 0,
    as_json: Json = False,
) -> None:
    """Print updates as they come, until Ctrl-C."""
    asyncio.run(_follow(context.obj.settings(), from_beginning, count, as_json))


async def _follow(settings: Settings, from_beginning: bool, count: int, as_json: bool) -> None:
    from stream_app.topic_scan import open_consumer

    shown = 0
    async with open_consumer(
        settings.kafka, settings.updates_topic, from_beginning=from_beginning
    ) as consumer:
        async for record in consumer:
            _show(record, as_json)
            shown += 1
            if shown == count:
                return


def _show(record: ConsumerRecord, as_json: bool) -> None:
    import math

    import msgspec

    from stream_app.updates import decode

    user = (record.key or b"").decode(errors="replace")
    if record.value is None:
        if as_json:
            write_json({"user_id": user, "forgotten": True})
        else:
            print(f"{user}  forgotten", flush=True)
        return
    update = decode(record.value)
    if as_json:
        write_json(msgspec.to_builtins(update, enc_hook=list))
        return
    norm = math.sqrt(sum(x * x for x in update.vector))
    print(
        f"{user}  {update.event_count} events  offset {update.partition}/{update.applied_offset}  "
        f"{len(update.vector)} dimensions, norm {norm:.3f}",
        flush=True,
    )
