"""The dashboard's files, as the HTTP server gives them out: open, for no data is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

PREFIX = "/dashboard/"
_FIRST = "index.html"
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# Nothing of another host, nothing inline, no markup made of strings, in no frame of others.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask whether it is new: page and API are of one version
}

_Handler = Callable[[web.Request], Awaitable[web.Response]]


def dashboard_files() -> dict[str, bytes]:
    """Return name -> content of every file of the page."""
    folder = resources.files("stream_app.serving") / "dashboard"
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if any(entry.name.endswith(ending) for ending in _KINDS)
    }


def dashboard_routes() -> list[web.RouteDef]:
    """Return the routes of the page: itself at ``/``, the rest below ``/dashboard/``."""
    routes = []
    for name, content in dashboard_files().items():
        path = "/" if name == _FIRST else PREFIX + name
        routes.append(web.get(path, _giving(name, content)))
    return routes


def _giving(name: str, content: bytes) -> _Handler:
    """Return a handler that has the file in memory: a few dozen kB, and no disk to wait for."""
    kind = _KINDS[name[name.rindex(".") :]]
    tag = hashlib.sha256(content).hexdigest()[:16]
    headers = HEADERS | {"ETag": f'"{tag}"'}

    async def give(request: web.Request) -> web.Response:
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return give
