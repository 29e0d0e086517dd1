"""Under which address the other workers of the group find this one."""

from __future__ import annotations

import socket
import uuid

from stream_app.settings import Settings

_NOWHERE = ".invalid"
"""A domain that never is one (RFC 6761): members are told apart by their addresses, so a worker
that serves no API needs one, too."""
_ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})


def advertised_url(settings: Settings) -> str:
    """Return what the group is told; another one with every call where no API is served."""
    if not settings.serves_api:
        return f"http://{uuid.uuid4().hex}{_NOWHERE}"
    if settings.http_url:
        return settings.http_url
    host = settings.http_host
    if host in _ALL_ADDRESSES:
        host = socket.gethostname()
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.http_port}"


def leads_somewhere(url: str) -> bool:
    """Tell whether the worker with this address serves the API."""
    return not url.endswith(_NOWHERE)
