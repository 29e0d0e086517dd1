"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from stream_app.api.problems import ApiProblem, Handler
from stream_app.errors import FixSettings
from stream_app.kafka_access import first_line
from stream_app.settings import Settings

LEAST_TOKEN_CHARS = 16
"""Of 64 different ones, 2^96 tokens: nobody guesses one in any time."""
_TOKEN = re.compile(rf"[\x21-\x7e]{{{LEAST_TOKEN_CHARS},}}")
"""What comes through a header unchanged: of a space at an end nobody knows whether it is meant."""
_BURST_S = 2
_SCHEME = "bearer "


def token_of(settings: Settings) -> str:
    """Return the API's token.

    Raises:
        FixSettings: its file cannot be read, it is too short to be a secret, or it would not come
            through a header as it is.
    """
    token = settings.api_token.get_secret_value()
    name = "api_token"
    if settings.api_token_file is not None:
        token, name = first_line(settings.api_token_file, "api_token_file"), "api_token_file"
    if not _TOKEN.fullmatch(token):
        raise FixSettings(
            f"{name} must hold {LEAST_TOKEN_CHARS} or more printable ASCII characters and no space,"
            f" not even at its ends; found {len(token)} characters: make one with "
            "`openssl rand -base64 32`"
        )
    return token


class RequestRate:
    """So many requests a second, and bursts of two seconds' worth. Time is passed in.

    >>> rate = RequestRate(1.0, now_s=0.0)
    >>> [rate.wait_s(0.0) for _ in range(3)], rate.wait_s(1.0)
    ([0.0, 0.0, 1.0], 0.0)
    """

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * _BURST_S)
        self._left = self._most
        self._then_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Take one request and return 0; or take none and return how long one has to wait."""
        self._left = min(self._most, self._left + (now_s - self._then_s) * self._per_s)
        self._then_s = now_s
        if self._left < 1.0:
            return (1.0 - self._left) / self._per_s
        self._left -= 1.0
        return 0.0


class Token:
    """The secret that a request must bring."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token.encode())

    def opens(self, authorization: str) -> bool:
        """Tell whether an ``Authorization`` header is ours, in a time that tells nothing.

        Digests are compared, for two texts of different lengths are told apart at once.
        """
        is_bearer = authorization[: len(_SCHEME)].lower() == _SCHEME
        brought = authorization[len(_SCHEME) :].strip() if is_bearer else ""
        return hmac.compare_digest(
            _digest(brought.encode("utf-8", "surrogateescape")), self._digest
        )


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def admission(
    token: Token, per_s: float, clock: Callable[[], float] = time.monotonic
) -> Middleware:
    """Return the middleware that lets in who has the token, as often as is allowed.

    Who has not costs a digest and takes nothing from those who have.
    """
    rate = RequestRate(per_s, clock())

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not token.opens(request.headers.get("Authorization", "")):
            raise ApiProblem(401, "unauthorized", "expected `Authorization: Bearer` and the token")
        wait_s = rate.wait_s(clock())
        if wait_s:
            message = f"more than api_requests_per_s ({per_s:g}) of all clients together"
            raise ApiProblem(429, "too-many-requests", message, math.ceil(wait_s))
        return await handler(request)

    return admit
