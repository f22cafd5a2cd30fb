"""Addresses and socket options shared by the asyncio and the blocking side. Imports nothing heavy.

Who listens on a loopback address listens beside it on a local socket (AF_UNIX), named after that address in the
abstract namespace of Linux. That namespace belongs to the network namespace, as the loopback does: the same processes
reach both. A small message through it costs a quarter of one through TCP.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from typing import Final

from objstore.model.errors import InvalidRequest

# A peer that vanished without a word (power, cable) is noticed after this, idle or not. Calls have deadlines of
# their own; this only decides when the dead connection is thrown away and a new one is tried.
SILENCE_S: Final = 15
_PROBE_AFTER_S: Final = 5
_PROBES: Final = 2
_LOCAL_BACKLOG: Final = 128
_PEER: Final = struct.Struct("3i")  # process, user and group of who listens


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


def listen_locally(address: str) -> socket.socket | None:
    """A listening socket beside that of `address`; None where there is no such thing, or somebody has the name."""
    name = _local_name(address)
    if name is None:
        return None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(name)
        sock.listen(_LOCAL_BACKLOG)
    except OSError:
        sock.close()
        return None
    return sock


def connect_locally(address: str) -> socket.socket | None:
    """Connected, non-blocking, to the local socket beside `address`; None if nobody of ours listens there, or its
    backlog is full. Never waits.

    Whoever comes first can take a name, and could hand on to another process of the cluster what is meant for this one;
    so it must belong to the user that this process runs as, who could do anything to it anyway."""
    name = _local_name(address)
    if name is None:
        return None
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(name)
        _, owner, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    except OSError:
        sock.close()
        return None
    if owner != os.getuid():
        sock.close()
        return None
    return sock


def _local_name(address: str) -> str | None:
    try:
        host, port = split_address(address)
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may stand for several addresses
        return None
    return f"\0objstore/{join_address(host, port)}" if is_loopback and sys.platform == "linux" else None


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
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for level, name, value in options:
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(level, getattr(socket, name), value)
