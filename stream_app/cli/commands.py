"""All commands, and what they share: the settings, read once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli import (
    evaluate,
    export,
    forget,
    inspect_user,
    kafka,
    model,
    play,
    replay,
    rewind,
    run_demo,
    show_settings,
    tail,
    topics,
    train,
    tune,
)
from stream_app.cli.context import Context

app = typer.Typer(
    name="interest-stream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Events in, interest vectors out, on Kafka.\n\n"
    "Settings come from INTEREST_… variables and a TOML file; `interest-stream settings` lists "
    "them.\n\nExit codes: 1 failed, 2 fix the settings, 3 fix the data, 4 wait for the broker, "
    "5 restart, 6 report a bug, 130 interrupted.",
)


@app.callback()
def shared(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings [default: interest-stream.toml if it exists]"),
    ] = None,
) -> None:
    """Remember where the settings come from; a command loads them when it needs them."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our one line says it
    context.obj = Context(config)


@app.command(
    epilog="Examples: INTEREST_BOOTSTRAP_SERVERS=kafka:9092 interest-stream worker · "
    "interest-stream worker --model bundle"
)
def worker(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="Bundle to serve; instead of the setting model.")
    ] = None,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    settings = context.obj.settings(**({} if model is None else {"model": str(model)}))
    from stream_app.runner import run

    raise typer.Exit(run(settings))


app.command("settings", epilog=show_settings.EXAMPLES)(show_settings.settings)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("demo", epilog=run_demo.EXAMPLES)(run_demo.demo)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("forget", epilog=forget.EXAMPLES)(forget.forget)
app.command("rewind", epilog=rewind.EXAMPLES)(rewind.rewind)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.add_typer(topics.app, name="topics")
app.add_typer(play.items_app, name="items")
app.add_typer(play.events_app, name="events")
app.add_typer(kafka.app, name="kafka")
app.add_typer(inspect_user.app, name="inspect")
app.add_typer(tail.app, name="tail")
app.add_typer(model.app, name="model")
app.add_typer(replay.app, name="replay")
