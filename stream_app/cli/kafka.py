"""``kafka start|stop``: the embedded broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json

app = typer.Typer(no_args_is_help=True, help="A Kafka of one node, without Docker or Java.")

Directory = Annotated[Path, typer.Option(help="Its data, settings, log and pid file.")]

_DIRECTORY = Path(".run/kafka")
_PORT = 9092


@app.command(epilog="Example: interest-stream kafka start --port 9092")
def start(
    directory: Directory = _DIRECTORY,
    port: Annotated[int, typer.Option(help="0: a free one.", min=0, max=65535)] = _PORT,
    as_json: Json = False,
) -> None:
    """Start it in the background and wait until it answers."""
    from stream_app.kafka_server import KafkaServer

    server = KafkaServer(directory, port).start(detached=True)
    if as_json:
        write_json({"bootstrap_servers": server.bootstrap, "pid": server.pid})
        return
    print(f"Kafka answers on {server.bootstrap} (process {server.pid}, log {server.log_path})")
    print("`interest-stream kafka stop` ends it")


@app.command(epilog="Example: interest-stream kafka stop")
def stop(directory: Directory = _DIRECTORY) -> None:
    """Stop it; what it holds stays for the next start."""
    from stream_app.kafka_server import stop_detached

    print("stopped" if stop_detached(directory.absolute()) else f"no Kafka runs in {directory}")
