"""Addresses and socket options shared by the asyncio and the blocking side. Imports nothing heavy."""

from __future__ import annotations

import socket
from typing import Final

from objstore.model.errors import InvalidRequest

# A peer that vanished without a word (power, cable) is noticed after this, idle or not. Calls have deadlines of
# their own; this only decides when the dead connection is thrown away and a new one is tried.
SILENCE_S: Final = 15
_PROBE_AFTER_S: Final = 5
_PROBES: Final = 2


def split_address(address: str) -> tuple[str, int]:
    """host:port or [IPv6]:port."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (host and colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InvalidRequest(f"{address!r} is not an address: write host:port, or [host]:port for IPv6")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tune(sock: socket.socket) -> None:
    """Small frames leave at once; a silent death is noticed in SILENCE_S where the system can."""
    options = (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _PROBE_AFTER_S),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", (SILENCE_S - _PROBE_AFTER_S) // _PROBES),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", SILENCE_S * 1000),
    )
    for level, name, value in options:
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(level, getattr(socket, name), value)
