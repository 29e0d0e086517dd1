"""``replay --verify``: what was published, recomputed and compared, as a table or as JSON."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import typer

from stream_app.cli.context import write_json
from stream_app.cli.progress import progress_with_eta
from stream_app.errors import FixSettings

if TYPE_CHECKING:
    from stream_app.replaying.verification import Request
    from stream_app.replaying.verification_result import Cause, Verified
    from stream_app.settings import Settings

_SHOWN_MAX = 50
"""Rows of the table; --json has them all."""
_WIDE = 250
"""Columns of a file or a pipe: a person may cut lines there, a wrapped one cannot be searched."""


def verify(settings: Settings, request: Request, allow: tuple[str, ...], *, as_json: bool) -> None:
    """Verify, say what was found, and exit with 1 if anything differs that is not allowed."""
    from stream_app.replaying import verification

    allowed = _causes(allow)
    with progress_with_eta("verify", shown=not as_json) as show:
        verified = asyncio.run(verification.verify(settings, request, show))
    failing = verified.failing(allowed)
    if as_json:
        write_json({**verified.as_json(), "failing": failing})
    else:
        _show(verified)
        if allowed:
            total = len(verified.differences) + verified.not_examined
            print(f"{failing:,} of {total:,} differences are not allowed")
    raise typer.Exit(1 if failing else 0)


def _causes(said: tuple[str, ...]) -> frozenset[Cause]:
    from stream_app.replaying.verification_result import Cause

    known = [cause.value for cause in Cause]
    for name in said:
        if name not in known:
            raise FixSettings(f"--allow {name}: causes are {', '.join(known)}")
    return frozenset(map(Cause, said))


def _show(verified: Verified) -> None:
    print(
        f"verified {verified.events:,} events, {verified.users:,} users, model "
        f"{verified.model_id}, in {verified.seconds:.1f} s ({verified.events_per_s:,} events/s)"
    )
    print(
        f"compared: {verified.windows:,} windows bit for bit, {verified.vectors:,} vectors "
        f"{_how(verified)}, {verified.tombstones:,} tombstones"
    )
    if verified.vectors_within_tolerance:
        print(f"{verified.vectors_within_tolerance:,} vectors differ within the tolerance")
    for model_id, count in verified.of_other_models.items():
        print(f"not comparable: {count:,} updates of model {model_id}")
    if verified.history_gone:
        print(f"not comparable: {verified.history_gone:,} records whose past the log has lost")
    for note in verified.notes:
        typer.echo(f"note: {note}", err=True)
    total = len(verified.differences) + verified.not_examined
    print(f"differences: {total:,}" if total else "no differences")
    if total:
        _table(verified)


def _how(verified: Verified) -> str:
    return f"within {verified.tolerance:g}" if verified.tolerance else "bit for bit"


def _table(verified: Verified) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("user", "partition", "offset", "kind", "cause", "detail")
    for each in verified.differences[:_SHOWN_MAX]:
        table.add_row(
            each.user, str(each.partition), str(each.offset), each.kind, each.cause, each.detail
        )
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    more = len(verified.differences) - _SHOWN_MAX
    if more > 0:
        print(f"and {more:,} more: --json lists them")
    if verified.not_examined:
        print(f"{verified.not_examined:,} beyond these were counted, not looked into")
