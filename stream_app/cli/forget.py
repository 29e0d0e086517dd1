"""``forget``: everything about a user deleted, and a look whether it is."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.cli.context import Json, write_json

if TYPE_CHECKING:
    from stream_app.forgetting import Api, Finding, Forget
    from stream_app.settings import Settings

EXAMPLES = (
    "Examples: interest-stream forget alice · interest-stream forget alice --check · "
    "interest-stream forget alice --only-check --api http://127.0.0.1:8080 --api-token token.txt"
)


def forget(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(metavar="USER")],
    check: Annotated[
        bool, typer.Option("--check", help="Wait until it is done, and look everywhere.")
    ] = False,
    only_check: Annotated[
        bool, typer.Option("--only-check", help="Write nothing, only look everywhere.")
    ] = False,
    within: Annotated[
        float, typer.Option(min=0, help="Seconds that --check waits for the workers.")
    ] = 60,
    api: Annotated[
        str | None, typer.Option(help="A worker's HTTP address, to be asked, too.")
    ] = None,
    api_token: Annotated[
        Path | None, typer.Option(help="File whose first line is the API's token.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Forget a user: window, changelog record, update and cached vectors go.

    --check looks at the changelog, the updates, the windows and caches in this machine's datadir,
    and the API if it is named; exit code 1 if anything still knows the user.
    """
    settings = context.obj.settings()
    asked = None if api is None else _api(api, api_token)
    written, found = asyncio.run(
        _run(settings, user_id, asked, within, write=not only_check, check=check or only_check)
    )
    if as_json:
        write_json(
            {
                "user_id": user_id,
                "written": None if written is None else written._asdict(),
                "findings": [finding._asdict() for finding in found],
            }
        )
    else:
        _show(user_id, written, found)
    if any(finding.known for finding in found):
        raise typer.Exit(1)


async def _run(
    settings: Settings, user_id: str, api: Api | None, within_s: float, *, write: bool, check: bool
) -> tuple[Forget | None, list[Finding]]:
    from stream_app import forgetting

    texts = await forgetting.own_texts(settings, user_id) if check else []
    written = None
    found: list[Finding] = []
    if write:
        written = await forgetting.forget(settings, user_id, f"forget-{uuid.uuid4()}")
    if check and written is not None:
        found.append(await forgetting.applied(settings, written, within_s))
    if check and not any(finding.known for finding in found):
        found += await forgetting.look(settings, user_id, texts, api)
    return written, found


def _api(url: str, token_file: Path | None) -> Api:
    from stream_app.errors import FixSettings
    from stream_app.forgetting import Api
    from stream_app.kafka_access import first_line

    if token_file is None:
        raise FixSettings("--api needs --api-token, a file whose first line is the token")
    return Api(url, first_line(token_file, "--api-token"))


def _show(user_id: str, written: Forget | None, found: list[Finding]) -> None:
    if written is not None:
        print(
            f"forget {user_id}: written to partition {written.partition}, offset {written.offset}"
        )
    for finding in found:
        known = {True: "KNOWN", False: "not known", None: "not seen"}[finding.known]
        print(f"{known:10} {finding.place}: {finding.detail}")
    if found:
        print(_verdict(user_id, found))


def _verdict(user_id: str, found: list[Finding]) -> str:
    """Say no more than was seen."""
    still = ", ".join(finding.place for finding in found if finding.known)
    if still:
        return f"{user_id} is still known to: {still}"
    unseen = ", ".join(finding.place for finding in found if finding.known is None)
    if unseen:
        return f"{user_id} is not known wherever was looked; not seen: {unseen}"
    return f"{user_id} is forgotten"
