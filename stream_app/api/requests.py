"""What a request says, checked: bodies and parameters to values, or a 400 that says why not."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from stream_app.api.problems import ApiProblem

T = TypeVar("T")

_MOST_ID_CHARS = 256
"""As :class:`state.event.EventLimits`: no longer id is ever folded."""


async def body(request: web.Request, kind: type[T], max_bytes: int) -> T:
    """Return the body as ``kind``.

    Raises:
        ApiProblem: it is too large, or something else.
    """
    too_large = ApiProblem(413, "too-large", f"more than api_max_body_bytes ({max_bytes})")
    if (request.content_length or 0) > max_bytes:
        raise too_large
    received = bytearray()
    async for chunk in request.content.iter_any():
        received += chunk
        if len(received) > max_bytes:
            raise too_large
    try:
        return msgspec.json.decode(bytes(received), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ApiProblem(400, "bad-request", f"body: {error}") from None


def whole_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a parameter of the query.

    Raises:
        ApiProblem: it is no whole number within the bounds.
    """
    raw = request.query.get(name)
    if raw is None:
        return default
    if raw.isascii() and raw.isdigit() and len(raw) < 10 and least <= int(raw) <= most:
        return int(raw)
    raise ApiProblem(
        400, "bad-request", f"{name} must be a whole number from {least} to {most}, found {raw!r}"
    )


def yes_or_no(request: web.Request, name: str) -> bool:
    """Return a parameter of the query; no, where it is not given.

    Raises:
        ApiProblem: it is neither ``true`` nor ``false``.
    """
    raw = request.query.get(name, "false")
    if raw not in ("true", "false"):
        raise ApiProblem(400, "bad-request", f"{name} must be true or false, found {raw!r}")
    return raw == "true"


def user_key(user_id: str) -> bytes:
    """Return the record key of a user.

    Raises:
        ApiProblem: no user has such an id.
    """
    try:
        key = user_id.encode()
    except UnicodeEncodeError:
        key = b""
    if not key or len(user_id) > _MOST_ID_CHARS or "\x00" in user_id:
        raise ApiProblem(404, "unknown-user", "no user has such an id")
    return key
