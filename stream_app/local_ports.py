"""Ports of this machine for the embedded Kafka, and whether a broker answers on one."""

from __future__ import annotations

import random
import socket
import struct

from stream_app.errors import FixSettings

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Below Linux's ephemeral range (32,768 and up): a client that keeps reconnecting to a stopped
broker can be given the broker's own port as its source port, connects to itself, and the broker
can never bind again."""


class NoFreePort(FixSettings):
    """Every port of the range is taken."""


def free_port(but: int = 0) -> int:
    """Return a port nobody listens on, other than ``but``.

    Raises:
        NoFreePort: all are taken.
    """
    for _ in range(1_000):
        port = random.choice(_PORTS)
        if port != but and is_free(port):
            return port
    raise NoFreePort(f"no free port between {_PORTS.start} and {_PORTS.stop} on {HOST}")


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        # As Java does: ports of connections in TIME_WAIT count as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Ask for the API versions (key 18, version 0), which a broker answers once it serves."""
    correlation = 7
    request = struct.pack(">hhih", 18, 0, correlation, -1)  # client id: null
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(head) == 8 and struct.unpack(">ii", head)[1] == correlation
