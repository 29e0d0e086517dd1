"""Exit 0 while the worker of this container answers /health with 200; else say why not."""

import http.client
import json
import os
import sys

TIMEOUT_S = 4
"""A loop that does not turn does not answer; Docker's own limit is 5 s, and then says nothing."""


def main() -> None:
    """Ask, and exit."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ["INTEREST_HTTP_PORT"]), timeout=TIMEOUT_S
    )
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"no answer from /health: {error!r}")
    if answer.status != http.HTTPStatus.OK:
        try:
            sys.exit("; ".join(json.loads(body)["reasons"]))
        except (ValueError, KeyError, TypeError):
            sys.exit(f"/health answered {answer.status}: {body[:200]!r}")


if __name__ == "__main__":
    main()
