"""A worker's read API, asked as a client asks."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

from stream_app.local_ports import HOST, free_port
from tests.harness.stream import Stream
from tests.harness.worker import Worker

TOKEN = "a-token-that-nobody-guesses"
_ANSWER_S = 30


class Answer(NamedTuple):
    """Status and JSON."""

    status: int
    said: Any


class Api:
    """The API of one worker."""

    def __init__(self, worker: Worker, url: str) -> None:
        self.worker = worker
        self.url = url

    def ask(self, path: str, body: object = None, token: str = TOKEN) -> Answer:
        """Return what is answered: to a GET, or to a POST of ``body``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))

    def of_user(self, user: str, what: str, **query: object) -> Answer:
        """Return what is answered of a user."""
        path = f"/v1/users/{urllib.parse.quote(user, safe='')}/{what}"
        return self.ask(f"{path}?{urllib.parse.urlencode(query)}" if query else path)


def start_with_api(stream: Stream, **changed: object) -> Api:
    """Start a worker that serves the API; return before it runs."""
    token_file = stream.folder / "token"
    token_file.write_text(TOKEN + "\n")
    port = free_port()
    values = {"http_port": port, "api_token_file": token_file, **changed}
    return Api(stream.worker(**values), f"http://{HOST}:{port}")
