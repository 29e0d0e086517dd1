"""``replay compare`` and ``replay promote``: what comes of a shadow once it is made."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.cli.context import Json, write_json
from stream_app.cli.progress import progress_with_eta

if TYPE_CHECKING:
    from stream_app.replaying.promotion import Promotion
    from stream_app.settings import Settings

COMPARE_EXAMPLES = "Example: interest-stream replay compare next --out drift-next"
PROMOTE_EXAMPLES = (
    "Examples: interest-stream replay promote next --dry-run · interest-stream replay promote next"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the replay.")]


def compare(
    context: typer.Context,
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report [default: drift-NAME]")
    ] = None,
    most_users: Annotated[
        int, typer.Option(min=10, help="Compare a sample, if there are more.")
    ] = 20_000,
    as_json: Json = False,
) -> None:
    """Compare a shadow's vectors with the live ones: a page, plots, and every figure as JSON."""
    from stream_app.replaying import drift

    settings = context.obj.settings()
    command = shlex.join(["interest-stream", *sys.argv[1:]])
    report = asyncio.run(drift.compare(settings, name, command, most_users))
    written = drift.write(report, out or Path(f"drift-{name}"))
    if as_json:
        figures = report.as_json()
        del figures["users"]  # they are in the file
        write_json(figures | {"written": [str(path) for path in written]})
        return
    for part in report.parts:
        if part.drift is None:
            print(f"{part.name}: {part.reason}")
            continue
        print(
            f"{part.name}: {part.drift.compared:,} compared, {part.drift.kept.mean():.3f} of 10 "
            f"neighbours kept ({part.drift.kept_by_chance:.3f} by chance), rank correlation "
            f"{part.drift.rank_correlation:.3f}, CKA {part.drift.cka:.3f}, aligned cosine "
            f"{part.drift.aligned.mean():.3f}"
        )
    for path in written:
        print(f"wrote {path}")


def promote(
    context: typer.Context,
    name: Name,
    before_rollover: Annotated[
        bool,
        typer.Option("--before-rollover", help="Even if workers seem to publish the old model."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    rate: Annotated[float, typer.Option(min=1, help="Records copied per second.")] = 2_000,
    as_json: Json = False,
) -> None:
    """Make a shadow's vectors the live ones, after the workers were restarted with its model.

    Extends the shadow to now, then copies the vectors of users who had no event since the restart.
    Exit code 1 while somebody has none of the new model.
    """
    from stream_app.replaying import promotion

    settings = context.obj.settings()
    found = asyncio.run(promotion.look(settings, name))
    if dry_run:
        _say(found, as_json=as_json)
        raise typer.Exit(0)
    promotion.check(found, before_rollover=before_rollover)
    if found.shadow_behind_events:
        _extend(settings, name, shown=not as_json)
    with progress_with_eta("promote", shown=not as_json) as show:
        found = asyncio.run(promotion.copy(settings, found, rate, show))
    _say(found, as_json=as_json)
    raise typer.Exit(0 if found.complete else 1)


def _extend(settings: Settings, name: str, *, shown: bool) -> None:
    from stream_app.replaying import planning, run
    from stream_app.replaying.plan import Request

    asyncio.run(planning.extended(settings, name))
    plan = asyncio.run(planning.settled(settings, name, Request()))
    with progress_with_eta(name, shown=shown) as show:
        run.run(settings, plan, model=None, datadir=None, show=show)


_WORDS = {
    "shadow-behind": "had events since the shadow's end, with the old model: run this again",
    "left-to-workers": "have events that the live workers have not come to yet",
    "other-window": "have another window in the shadow, and keep their vector",
    "not-in-shadow": "are not in the shadow",
    "copy": "would be copied",
}


def _say(found: Promotion, *, as_json: bool) -> None:
    if as_json:
        write_json(found.as_json())
        return
    if found.dry_run:
        print(f"the shadow is {found.shadow_behind_events:,} events behind the live workers")
        for number, model_id in sorted(found.not_rolled_over.items()):
            print(f"partition {number}: published last by model {model_id}")
    else:
        print(f"copied {found.copied:,} vectors of replay {found.name}")
    for name, words in _WORDS.items():
        if found.verdicts[name]:
            print(f"{found.verdicts[name]:,} users {words}")
    print(
        f"{found.users_of_model:,} of {found.users:,} users have vectors of model {found.model_id}"
    )
    if found.complete:
        print("a reader that insists on it misses nobody")
