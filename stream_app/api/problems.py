"""What the API answers when it cannot answer, and the one place where that becomes JSON."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from stream_app.api.answers import Problem

log = logging.getLogger("stream_app.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COME_AGAIN_S = 1
"""What ``Retry-After`` says: about as long as a rebalance takes."""


class ApiProblem(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, error: str, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.retry_after_s = retry_after_s


def not_ready(message: str) -> ApiProblem:
    """Return what is answered where waiting helps."""
    return ApiProblem(503, "not-ready", message, COME_AGAIN_S)


def as_json(answer: msgspec.Struct, status: int = 200) -> web.Response:
    """Return an answer of the API."""
    return web.Response(
        body=msgspec.json.encode(answer), status=status, content_type="application/json"
    )


@web.middleware
async def problems_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every problem into JSON, those of aiohttp's router and our own bugs included."""
    try:
        return await handler(request)
    except ApiProblem as problem:
        answer = as_json(Problem(problem.error, problem.message), problem.status)
        if problem.retry_after_s:
            answer.headers["Retry-After"] = str(problem.retry_after_s)
        if problem.status == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="interest-stream"'
        return answer
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = as_json(Problem("method-not-allowed", f"allowed here: {allowed}"), 405)
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        message = "nothing is at this path; /openapi.json lists what there is"
        return as_json(Problem("not-found", message), 404)
    except web.HTTPException:
        raise  # nothing else is raised by aiohttp on our paths
    except Exception:
        log.exception("The API failed over a request to %s", _path(request))
        return as_json(Problem("internal", "a bug: the worker's log says more"), 500)


def _path(request: web.Request) -> str:
    """Return the path as the routes have it: who was asked for is nobody's business in a log."""
    resource = request.match_info.route.resource
    return "an unknown path" if resource is None else resource.canonical
