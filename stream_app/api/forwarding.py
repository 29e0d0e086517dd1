"""Requests passed on to the worker that can answer them, and other workers' own accounts."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from stream_app.api.places import Place
from stream_app.api.problems import COME_AGAIN_S, ApiProblem, not_ready
from stream_app.api.status_answers import StatusAnswer

FORWARDED_HEADER = "X-Interest-Forwarded"
"""Brought by a request that another worker has passed on."""
_ANSWER_S = 15.0
"""More than the owner gives its encoder."""
_STATUS_S = 2.0
_SAME_ADDRESS = "two workers have told the group the same address (http_url)"


class Forwarding:
    """Asks the other workers, with our own token: theirs is the same."""

    def __init__(self, token: str, own: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}", FORWARDED_HEADER: own}
        self._own = own
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready."""
        self._session = aiohttp.ClientSession(headers=self._headers, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def to_holder(self, request: web.Request, holder: Place | None) -> web.Response:
        """Return the answer of the worker that holds the user.

        Raises:
            ApiProblem: there is none yet, it cannot be asked, or the request was passed on before:
                two workers may each take the other for the holder while partitions move.
        """
        if holder is None:
            raise not_ready(f"nobody holds the user's partition: a rebalance, or {_SAME_ADDRESS}")
        if holder.url == self._own:
            raise not_ready(f"the user's partition is being recovered, or {_SAME_ADDRESS}")
        if FORWARDED_HEADER in request.headers:
            raise not_ready("the user's partition is on its way to another worker")
        if not holder.serves_api:
            raise _unreachable("the worker that holds this user does not serve the API")
        try:
            status, body, retry_after = await self._get(
                holder.url, request.rel_url.raw_path_qs, _ANSWER_S
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _unreachable(f"{holder.url} does not answer: {_said(error)}") from error
        if status == 401:
            raise _unreachable(f"{holder.url} has another API token: all workers need the same")
        headers = {"Retry-After": retry_after} if retry_after else None
        return web.Response(
            body=body, status=status, content_type="application/json", headers=headers
        )

    async def status_of(self, place: Place) -> StatusAnswer | str:
        """Return what a worker says of itself, or why there is nothing."""
        if not place.serves_api:
            return "it does not serve the API"
        try:
            status, body, _ = await self._get(place.url, "/v1/status", _STATUS_S)
            if status != 200:
                return f"it answered {status}"
            return msgspec.json.decode(body, type=StatusAnswer)
        except TimeoutError:
            return f"no answer within {_STATUS_S:g} s"
        except (aiohttp.ClientError, msgspec.MsgspecError, ValueError) as error:
            return _said(error)

    async def statuses_of(self, places: list[Place]) -> list[StatusAnswer | str]:
        """Return what each worker says of itself, all asked at once."""
        found: list[Any] = list(await asyncio.gather(*map(self.status_of, places)))
        return found

    async def _get(self, base: str, path: str, within_s: float) -> tuple[int, bytes, str]:
        assert self._session is not None, "open() comes first"
        url = URL(base.rstrip("/") + path, encoded=True)
        limit = aiohttp.ClientTimeout(total=within_s)
        async with self._session.get(url, timeout=limit, allow_redirects=False) as answer:
            return answer.status, await answer.read(), answer.headers.get("Retry-After", "")


def _unreachable(message: str) -> ApiProblem:
    return ApiProblem(503, "owner-unreachable", message, COME_AGAIN_S)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
