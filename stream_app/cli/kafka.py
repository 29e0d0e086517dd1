"""``kafka start|stop``: the embedded broker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json

app = typer.Typer(no_args_is_help=True, help="A Kafka of one node, without Docker or Java.")

Directory = Annotated[Path, typer.Option(help="Its data, settings, log and pid file.")]

_TOOLS = {
    "configs": "kafka.admin.ConfigCommand",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "topics": "org.apache.kafka.tools.TopicCommand",
}
"""As Kafka's bin/ names them, ``kafka-topics.sh`` and so on."""

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


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Examples: interest-stream kafka tool topics --list · "
    "interest-stream kafka tool console-consumer --topic interest.updates --from-beginning",
)
def tool(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=", ".join(_TOOLS))],
) -> None:
    """Run one of Kafka's own Java tools, on the broker of the settings.

    All that follows the name goes to the tool, after a --bootstrap-server if it is not given.
    """
    from stream_app.errors import FixSettings
    from stream_app.kafka_server import java_command

    if name not in _TOOLS:
        raise FixSettings(f"no tool {name!r}: there are {', '.join(_TOOLS)}")
    arguments = context.args
    if not any(argument.startswith("--bootstrap-server") for argument in arguments):
        arguments = ["--bootstrap-server", context.obj.settings().bootstrap_servers, *arguments]
    java = java_command()
    os.execv(java[0], [*java, _TOOLS[name], *arguments])  # its signals and exit code are ours
