"""``replay``: the past computed anew, into shadow topics; ``replay list`` and ``delete``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_app.cli import replay_results
from stream_app.cli.context import Json, write_json
from stream_app.cli.progress import progress_with_eta

if TYPE_CHECKING:
    from stream_app.replaying.plan import Plan, Request
    from stream_app.replaying.shadows import Shadow
    from stream_app.settings import Settings

app = typer.Typer(
    invoke_without_command=True,
    help="The past computed anew, into shadow topics beside the live ones.",
    epilog="Examples: interest-stream replay --name june --from 2026-06-01 --warm-up window · "
    "interest-stream replay --name wide · interest-stream replay list",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the replay.")]
Datadir = Annotated[
    Path | None,
    typer.Option(help="For a further process on one machine [default: <datadir>/replays/<name>]"),
]


@app.callback()
def replay(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Of the replay; again, to go on.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="earliest (default), a time, or 0:123,1:456.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="latest (default: the ends of now), as --from.")
    ] = None,
    users: Annotated[
        str | None, typer.Option(help="Only these, comma-separated, or @FILE with one per line.")
    ] = None,
    warm_up: Annotated[
        str | None,
        typer.Option(help="Fill windows from so long before --from: 30d, or `window`."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle, instead of the live model.")] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Move the end of a replay to now, and go on.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare what was published live with the past, recomputed."),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, help="With --verify: a vector's numbers may differ by so much."),
    ] = 0.0,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CAUSE", help="With --verify: list these, but do not fail on them."),
    ] = None,
    datadir: Datadir = None,
    as_json: Json = False,
) -> None:
    """Fold a part of the events topic anew; the live worker is not touched.

    Stops by itself at the end. Killed, the same command goes on; the same command in several
    processes shares the partitions out.
    """
    if context.invoked_subcommand is not None:
        return
    from stream_app.errors import FixSettings
    from stream_app.replaying.plan import Request

    if verify:
        if (name, warm_up, model, extend, datadir) != (None, None, None, False, None):
            raise FixSettings("--verify looks at what is live: it takes --from, --to and --users")
        _verify(context.obj.settings(), start, end, users, tolerance, allow, as_json)
        return
    if tolerance or allow:
        raise FixSettings("--tolerance and --allow are of --verify")
    if name is None:
        raise FixSettings("a replay needs a --name; `interest-stream replay list` says which exist")
    request = Request(
        start, end, read_users(users), warm_up, None if model is None else str(model.resolve())
    )
    settings = context.obj.settings()
    plan = _plan(settings, name, request, extend)
    _run(settings, plan, request, datadir, as_json)


def _verify(
    settings: Settings,
    start: str | None,
    end: str | None,
    users: str | None,
    tolerance: float,
    allow: list[str] | None,
    as_json: bool,
) -> None:
    from stream_app.cli.verify import verify
    from stream_app.replaying.positions import EARLIEST, LATEST
    from stream_app.replaying.verification import Request

    request = Request(start or EARLIEST, end or LATEST, read_users(users), tolerance)
    verify(settings, request, tuple(allow or ()), as_json=as_json)


def read_users(said: str | None) -> tuple[str, ...] | None:
    """Return the user ids in ``a,b`` or in the file ``@path``, sorted.

    Raises:
        FixSettings: the file cannot be read, or there is no user in it.
    """
    from stream_app.errors import FixSettings

    if said is None:
        return None
    try:
        lines = Path(said[1:]).read_text().splitlines() if said[:1] == "@" else said.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise FixSettings(f"--users {said} cannot be read: {error}") from None
    users = tuple(sorted({line.strip() for line in lines} - {""}))
    if not users:
        raise FixSettings(f"--users {said} names nobody")
    return users


def _plan(settings: Settings, name: str, request: Request, extend: bool) -> Plan:
    from stream_app.errors import FixSettings
    from stream_app.replaying import planning

    if extend:
        if (request.start, request.end, request.users, request.warm_up) != (None,) * 4:
            raise FixSettings("--extend moves the end to now and changes nothing else")
        asyncio.run(planning.extended(settings, name))
    return asyncio.run(planning.settled(settings, name, request))


def _run(
    settings: Settings, plan: Plan, request: Request, datadir: Path | None, as_json: bool
) -> None:
    from stream_app.replaying import planning, run

    behind = asyncio.run(planning.behind_the_log(settings, plan))
    for note in (*plan.notes, *behind):
        typer.echo(f"note: {note}", err=True)
    with progress_with_eta(plan.name, shown=not as_json) as show:
        summary = run.run(settings, plan, model=request.model, datadir=datadir, show=show)
    summary["notes"] += behind
    if as_json:
        write_json(summary)
    else:
        _show(summary)


def _show(summary: dict[str, Any]) -> None:
    print(
        f"replay {summary['name']} is complete: {summary['offsets']:,} offsets in all. This "
        f"process: {summary['events']:,} events, {summary['users']:,} users, "
        f"{summary['updates']:,} updates in {summary['seconds']:.1f} s "
        f"({summary['events_per_s']:,} events/s)"
    )
    if summary["skipped"]:
        print(f"{summary['skipped']:,} events of other users left out")
    if summary["dead_letters"]:
        print(f"{summary['dead_letters']:,} dead letters")
    print(f"updates are on {summary['updates_topic']}")


@app.command("list", epilog="Example: interest-stream replay list --json")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """Say which replays there are, and how far they have come."""
    from stream_app.replaying import shadows

    found = asyncio.run(shadows.found(context.obj.settings()))
    if as_json:
        write_json([_described(each) for each in found])
        return
    if not found:
        print("no replays")
    for each in map(_described, found):
        state = "complete" if each["complete"] else f"{each['done']:,} of {each['total']:,}"
        print(
            f"{each['name']}: from {each['from']} to {each['to']}, {state}, "
            f"{each['members']} processes, model {each['model_id'] or 'not loaded yet'}, "
            f"made {each['made']}"
        )


def _described(shadow: Shadow) -> dict[str, Any]:
    plan = shadow.plan
    return {
        "name": plan.name,
        "from": plan.request.start,
        "to": plan.request.end,
        "users": None if plan.request.users is None else len(plan.request.users),
        "warm_up": plan.request.warm_up,
        "model_id": plan.model_id,
        "made": datetime.fromtimestamp(plan.made_ms / 1000, UTC).isoformat(timespec="seconds"),
        "done": shadow.done,
        "total": plan.total,
        "complete": shadow.done == plan.total,
        "members": shadow.members,
        "notes": list(plan.notes),
    }


@app.command("delete", epilog="Example: interest-stream replay delete june")
def delete(
    context: typer.Context, name: Name, datadir: Datadir = None, as_json: Json = False
) -> None:
    """Delete a replay that does not run: its topics, its group, its datadir on this machine."""
    from stream_app.replaying import shadows

    deleted = asyncio.run(shadows.delete(context.obj.settings(), name, datadir))
    if as_json:
        write_json({"deleted": deleted})
        return
    for each in deleted or ["nothing: there is no such replay"]:
        print(f"deleted {each}")


app.command("compare", epilog=replay_results.COMPARE_EXAMPLES)(replay_results.compare)
app.command("promote", epilog=replay_results.PROMOTE_EXAMPLES)(replay_results.promote)
