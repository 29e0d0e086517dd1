"""``rewind``: the live group back to a point of its log."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.cli.context import Json, write_json

if TYPE_CHECKING:
    from stream_app.replaying.rewinding import PartitionRewind

EXAMPLES = (
    "Examples: interest-stream rewind --to earliest --dry-run · "
    "interest-stream rewind --to 2026-11-01T00:00:00Z --yes · "
    "interest-stream rewind --to 0:1200,3:900 --keep-windows"
)


def rewind(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="earliest, a time, or offsets such as 0:123,1:456.")],
    keep_windows: Annotated[
        bool,
        typer.Option(
            "--keep-windows", help="Make no window anew, only publish the users once more."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Set the workers' group back, all workers being stopped, so that they make the past anew.

    Windows that include events from that point on are dropped and made anew from there; what they
    held from before the point is lost unless --to is earliest.
    """
    from stream_app.errors import FixSettings
    from stream_app.replaying import rewinding
    from stream_app.replaying.positions import position

    settings = context.obj.settings()
    changes = asyncio.run(rewinding.plan_rewind(settings, position(to)))
    if not as_json:
        _show(changes, keep_windows)
    if not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise FixSettings("nobody is there to be asked: say --yes, or --dry-run")
            typer.confirm("Rewind?", abort=True)
        asyncio.run(rewinding.rewind(settings, changes, keep_windows=keep_windows))
    if as_json:
        rows = [change._asdict() | {"events": change.events} for change in changes]
        write_json({"rewound": not dry_run, "keep_windows": keep_windows, "partitions": rows})
    else:
        print("nothing was changed" if dry_run else "rewound; start the workers")


def _show(changes: list[PartitionRewind], keep_windows: bool) -> None:
    for each in changes:
        windows = (
            f"{each.users_anew:,} users published once more"
            if keep_windows
            else f"{each.users_anew:,} windows made anew, {each.users_kept:,} kept"
        )
        print(
            f"partition {each.partition}: {each.committed:,} -> {each.to:,}, "
            f"{each.events:,} events again, {windows}"
        )
    lost = [each for each in changes if each.users_anew and each.to > 0]
    if lost and not keep_windows:
        print(
            "the windows made anew begin empty: what they hold from before the new offsets is lost "
            f"(in {len(lost)} partitions)"
        )
