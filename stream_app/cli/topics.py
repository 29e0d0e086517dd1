"""``topics create|check``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from stream_app.cli.context import Json, write_json

app = typer.Typer(no_args_is_help=True, help="The topics on the broker.")


@app.command(epilog="Example: INTEREST_PARTITIONS=16 interest-stream topics create")
def create(context: typer.Context, as_json: Json = False) -> None:
    """Create the topics that are missing; those that are there must fit."""
    from stream_app import topics

    settings = context.obj.settings()
    created = asyncio.run(topics.create(settings))
    present = [spec.name for spec in topics.topic_specs(settings) if spec.name not in created]
    if as_json:
        write_json({"created": created, "present": present})
        return
    for name in created:
        print(f"created {name}")
    for name in present:
        print(f"present {name}")


@app.command(
    epilog="Examples: interest-stream topics acls · interest-stream topics acls --user User:stream"
)
def acls(
    context: typer.Context,
    user: Annotated[str, typer.Option(help="Kafka's name of the worker's user.")] = "",
    with_create: Annotated[
        bool, typer.Option("--with-create", help="Also what `topics create` needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the ACLs that a worker needs, as arguments of kafka-acls.sh."""
    from stream_app.acls import creation_acls, worker_acls

    settings = context.obj.settings()
    principal = user or f"User:{settings.sasl_username or 'interest-stream'}"
    found = worker_acls(settings) + (creation_acls(settings) if with_create else [])
    if as_json:
        write_json([{**acl._asdict(), "principal": principal} for acl in found])
        return
    for acl in found:
        print(" ".join(acl.arguments(principal)))


@app.command(epilog="Example: interest-stream topics check --json")
def check(context: typer.Context, as_json: Json = False) -> None:
    """Say whether every topic is there, counts agree and nothing goes too early; exit 2 if not."""
    from stream_app import topics
    from stream_app.topic_settings import check_settings

    settings = context.obj.settings()
    counts = asyncio.run(topics.check(settings))
    if not_possible := asyncio.run(check_settings(settings)):
        typer.echo(f"not looked at: {not_possible}", err=True)
    if as_json:
        write_json(counts)
        return
    for name, partitions in counts.items():
        print(f"{name}: {partitions} partitions")
